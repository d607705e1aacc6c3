"""The commands as a whole: documented, quick to help, and in two lines about what went wrong."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import docs, errors
from cli.main import app

ROOT = Path(__file__).parents[2]
COMMANDS = dict(docs.commands())
commands = pytest.mark.parametrize("name", COMMANDS)


def examples(name: str) -> list[list[str]]:
    """The command lines under `Example:`, without what a shell does around them."""
    _, _, text = (COMMANDS[name].help or "").partition("Example:")
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    found = []
    for line in lines:
        for part in re.split(r"\||&&", re.sub(r"\$\([^)]*\)", "X", line)):
            words = shlex.split(part) if part.strip().startswith("realname ") else []
            if words:
                found.append(words)
    return found


def test_the_page_of_the_docs_is_fresh() -> None:
    assert (ROOT / "docs/cli.md").read_text("utf-8") == docs.page()


@commands
def test_every_command_is_explained(name: str) -> None:
    assert COMMANDS[name].help, "no help"
    for param in COMMANDS[name].params:
        assert param.help or param.name == "help", f"{param.name} has no help"


@commands
def test_every_command_has_an_example_that_can_be_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = [words for words in examples(name) if " ".join(words).startswith(name)]
    if name != "realname env":  # its example is the shell's
        assert shown, "no example"
    for words in shown:
        arguments = words[len(name.split()) :]
        for file in (word for word in arguments if word.endswith(".jsonl")):
            Path(file).touch()
        with COMMANDS[name].make_context(name, arguments):
            pass


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['realname', '--help']\n"
        "from cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('aiokafka', 'asyncpg', 'faust', 'pydantic') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", errors._KNOWN)
def test_known_errors_are_there(name: str) -> None:
    """They are known by name: a renamed one would be a surprise to its user."""
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(importlib.import_module(module), kind), Exception)


def test_settings_that_are_wrong_are_told_with_their_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALNAME_BROKERS", "nonsense")
    ended = CliRunner().invoke(app, ["env"])
    assert ended.exit_code == errors.WRONG
    assert "REALNAME_BROKERS: 'nonsense' is not host:port" in ended.stderr
    assert "→ " in ended.stderr
    assert ended.stdout == ""


def test_without_servers_the_mend_is_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REALNAME_HOME", str(tmp_path / "home"))
    ended = CliRunner().invoke(app, ["env"])
    assert ended.exit_code == errors.FAILED
    assert "→ run `realname up`, or set REALNAME_BROKERS" in ended.stderr
    assert not (tmp_path / "home").exists(), "looking makes nothing"


def test_only_debug_shows_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise() -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("cli.context.load_deployment", surprise)
    ended = CliRunner().invoke(app, ["env"])
    assert ended.exit_code == errors.FAILED
    assert "unexpected ZeroDivisionError: by zero" in ended.stderr
    assert "Traceback" not in ended.output
    ended = CliRunner().invoke(app, ["--debug", "env"])
    assert isinstance(ended.exception, ZeroDivisionError)
