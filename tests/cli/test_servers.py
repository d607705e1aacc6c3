"""One home, from nothing to wiped: the embedded servers through the commands alone."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`realname` as a process, in an environment that names nothing but the home."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("REALNAME_")
    }
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env={**environment, "PYTHONPATH": str(ROOT), "REALNAME_HOME": str(home), **variables},
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def exported(text: str) -> dict[str, str]:
    """The variables of `export` lines, as a shell reads them."""
    lines = [shlex.split(line) for line in text.splitlines()]
    assert all(line[0] == "export" for line in lines)
    return {name: value for _, pair in lines for name, _, value in [pair.partition("=")]}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_up_is_idempotent_and_down_keeps_the_data(home: Path) -> None:
    try:
        few = {"REALNAME_PARTITIONS": "1"}
        assert run(home, "env", **few).returncode == 1
        first = run(home, "up", **few)
        assert first.returncode == 0, first.stderr
        variables = exported(first.stdout)
        assert {"REALNAME_BROKERS", "REALNAME_DATABASE", "REALNAME_PERSON_SECRET"} <= set(variables)
        again = run(home, "up", **few)
        assert again.stdout == first.stdout
        assert "topics 22, 0 of them new" in again.stderr
        assert exported(run(home, "env", **few).stdout) == variables

        # What the variables name is the home's own, also when it is down.
        status = run(home, "status", **variables)
        assert status.returncode == 0, status.stdout
        assert "as they must be, 1 partitions" in status.stdout
        assert run(home, "topics", "plan", **variables).returncode == 0
        assert run(home, "migrate", **variables).returncode == 0
        assert run(home, "down").returncode == 0
        assert run(home, "status", **few).returncode == 1
        back = run(home, "up", **variables)
        assert back.returncode == 0, back.stderr
        assert exported(back.stdout) == variables
        assert "topics 22, 0 of them new" in back.stderr

        (home / "mine").touch()
        wiped = run(home, "down", "--wipe", "--yes")
        assert wiped.returncode == 0, wiped.stderr
        assert [path.name for path in home.iterdir()] == ["mine"]
    finally:
        run(home, "down")


def test_wiping_asks_first(home: Path) -> None:
    home.mkdir()
    (home / "secrets.json").touch()
    assert run(home, "down", "--wipe").returncode == 1  # no answer
    assert (home / "secrets.json").exists()
