"""What an operator can set, where it is read from, and what is said when it is wrong.

A setting `x` is taken from the first of these that has it: an argument of `load_settings`, the
environment variable `REALNAME_X`, for secrets the file named by `REALNAME_X_FILE`, the TOML file
(`REALNAME_CONFIG`, else `./realname.toml` where there is one; there `x = …`, for secrets also
`x_file = …`), the default.

`python -m deployment.settings` prints the table of all settings that the docs hold.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
import ssl
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from deployment.catalog import PREFIX_PATTERN

PREFIX: Final = "REALNAME_"
CONFIG_VARIABLE: Final = "REALNAME_CONFIG"
CONFIG_FILE: Final = Path("realname.toml")

_MISSPELT_RATIO: Final = 0.9
"""How alike (0 to 1) an unknown variable and a known one must be to count as a slip."""

SECRET_BYTES_MIN: Final = 16

Process = Literal["worker", "projector"]


# --- the forms of values -------------------------------------------------------------------------


def _brokers(text: str) -> str:
    entries = [entry.strip() for entry in text.split(",")]
    for entry in entries:
        host, colon, port = entry.rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
            raise ValueError(f"{entry!r} is not host:port")
    return ",".join(entries)


def _database(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        raise ValueError("not a URI") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("not a URI that begins with postgresql://")
    return text


def _hex(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return bytes.fromhex(value.strip())
    except ValueError:
        raise ValueError("not hexadecimal") from None


def _long_enough(secret: bytes) -> bytes:
    if len(secret) < SECRET_BYTES_MIN:
        raise ValueError(f"{len(secret)} bytes long, at least {SECRET_BYTES_MIN} are needed")
    return secret


_Key = Annotated[bytes, BeforeValidator(_hex), AfterValidator(_long_enough)]


def _code_keys(value: object) -> object:
    if not isinstance(value, str):
        return value
    keys: dict[int, str] = {}
    for entry in value.strip().split(","):
        number, colon, digits = entry.strip().partition(":")
        if not (colon and number.isascii() and number.isdigit()):
            raise ValueError("every key is written id:hex")
        if int(number) in keys:
            raise ValueError(f"the key id {int(number)} stands twice")
        keys[int(number)] = digits
    return keys


def _x25519(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        if re.fullmatch(r"[0-9A-Fa-f]{64}", text):
            return bytes.fromhex(text)
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("neither base64 nor hexadecimal") from None
    if len(key) != 32:
        raise ValueError(f"{len(key)} bytes long, an X25519 public key has 32")
    return key


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


_KeyId = Annotated[int, Field(ge=0, le=255)]
Port = Annotated[int, Field(ge=1, le=65_535)]


class Settings(BaseSettings):
    """One deployment's settings, checked. Made by `load_settings`; nothing in it changes later."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    brokers: Annotated[str, AfterValidator(_brokers)] | None = Field(
        None,
        description="Kafka brokers. Unset: the embedded one, started by `realname up`.",
        examples=["kafka-1:9092,kafka-2:9092,kafka-3:9092"],
    )
    database: Annotated[str, AfterValidator(_database)] | None = Field(
        None,
        repr=False,
        description="PostgreSQL of the projection. Unset: the embedded one.",
        examples=["postgresql://realname@db:5432/realname"],
        json_schema_extra={"secret": True},
    )
    person_secret: _Key | None = Field(
        None,
        repr=False,
        description="Key of the HMAC that makes person ids and name tags. Never changes in the "
        "life of a deployment. At least 16 bytes.",
        examples=["64 hexadecimal digits, from `openssl rand -hex 32`"],
        json_schema_extra={"secret": True},
    )
    code_keys: Annotated[dict[_KeyId, _Key], NoDecode, BeforeValidator(_code_keys)] | None = Field(
        None,
        repr=False,
        min_length=1,
        description="Keys of the codes to scan, `id:hex`. The highest id issues, all verify. Ids 0 "
        "to 255, at least 16 bytes a key.",
        examples=["1:<hex>,2:<hex>, each hex from `openssl rand -hex 32`"],
        json_schema_extra={"secret": True},
    )
    sealing_key: Annotated[bytes, BeforeValidator(_x25519)] | None = Field(
        None,
        repr=False,
        description="X25519 public key to which clients seal a person's details.",
        examples=["32 bytes in base64 or hexadecimal"],
        json_schema_extra={"secret": True},
    )
    home: Path = Field(
        Path(".realname"),
        description="Where the embedded broker and database and generated secrets live.",
        examples=["/var/lib/realname"],
    )
    topic_prefix: str = Field(
        "",
        pattern=f"^{PREFIX_PATTERN}$",
        description="Goes before every topic, group and transaction name, so that several "
        "deployments can share a cluster.",
        examples=["pudong-"],
    )
    partitions: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Partitions of commands, results and state. Unset: as topics.yaml says. Chosen "
        "once, before the first command; the same for every process.",
        examples=["16"],
    )
    kafka_security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_upper)
    ] = Field("PLAINTEXT", description="How the brokers are spoken to.", examples=["SASL_SSL"])
    kafka_sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(_upper)
    ] = Field("SCRAM-SHA-512", description="With SASL.", examples=["SCRAM-SHA-512"])
    kafka_sasl_username: str | None = Field(None, description="With SASL.", examples=["realname"])
    kafka_sasl_password: str | None = Field(
        None,
        repr=False,
        description="With SASL.",
        examples=["the user's password"],
        json_schema_extra={"secret": True},
    )
    kafka_ssl_cafile: Path | None = Field(
        None,
        description="With SSL: certificates to trust. Unset: the system's.",
        examples=["/etc/realname/ca.pem"],
    )
    kafka_ssl_certfile: Path | None = Field(
        None,
        description="With SSL: this client's certificate.",
        examples=["/etc/realname/client.pem"],
    )
    kafka_ssl_keyfile: Path | None = Field(
        None,
        description="With SSL: the key of that certificate.",
        examples=["/etc/realname/client.key"],
    )
    session_timeout_ms: int = Field(
        6_000,
        ge=1_000,
        le=300_000,
        description="A worker silent for this long loses its partitions to the others.",
        examples=["6000"],
    )
    transaction_timeout_ms: int = Field(
        10_000,
        ge=1_000,
        le=900_000,
        description="The broker aborts a transaction that is open longer than this.",
        examples=["10000"],
    )
    metrics_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address that serves `/metrics` and `/health`.",
        examples=["0.0.0.0"],
    )
    metrics_port: Port | None = Field(
        None, description="Port of this process, before the two below.", examples=["6066"]
    )
    worker_metrics_port: Port = Field(6066, description="Port of a worker.", examples=["6066"])
    projector_metrics_port: Port = Field(
        6067, description="Port of a projector.", examples=["6067"]
    )
    log_format: Annotated[Literal["json", "console"], BeforeValidator(_lower)] = Field(
        "json", description="One JSON object a line, or coloured text.", examples=["console"]
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = (
        Field("info", description="The least that is logged.", examples=["info"])
    )

    @property
    def embedded_broker(self) -> bool:
        """Whether the broker is the one that `realname up` starts in `home`."""
        return self.brokers is None

    @property
    def embedded_database(self) -> bool:
        """Whether the database is the one that `realname up` starts in `home`."""
        return self.database is None

    def port_of(self, process: Process) -> int:
        """Where `process` serves `/metrics` and `/health`."""
        if self.metrics_port is not None:
            return self.metrics_port
        return self.worker_metrics_port if process == "worker" else self.projector_metrics_port

    def kafka_options(self) -> dict[str, Any]:
        """Arguments for every aiokafka client: how to speak to the brokers, not which."""
        options: dict[str, Any] = {"security_protocol": self.kafka_security_protocol}
        if self.kafka_security_protocol.endswith("SSL"):
            context = ssl.create_default_context(cafile=self.kafka_ssl_cafile)
            if self.kafka_ssl_certfile is not None:
                context.load_cert_chain(self.kafka_ssl_certfile, self.kafka_ssl_keyfile)
            options["ssl_context"] = context
        if self.kafka_security_protocol.startswith("SASL"):
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
            options["sasl_plain_username"] = self.kafka_sasl_username
            options["sasl_plain_password"] = self.kafka_sasl_password
        return options

    def require(self, *names: str) -> None:
        """Raise `SettingsError` naming each of the settings `names` that is not set."""
        problems = [
            Problem(_variable(name), "not set", "this command needs it")
            for name in names
            if getattr(self, name) is None
        ]
        if problems:
            raise SettingsError(problems)

    def shown(self) -> dict[str, str]:
        """Every setting as text that may be printed; of a secret only whether it is set."""
        return {
            name: ("(set)" if value is not None else "")
            if _is_secret(name)
            else ("" if value is None else str(value))
            for name, value in ((name, getattr(self, name)) for name in Settings.model_fields)
        }

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                "REALNAME_KAFKA_SECURITY_PROTOCOL with SASL needs REALNAME_KAFKA_SASL_USERNAME and "
                "REALNAME_KAFKA_SASL_PASSWORD"
            )
        if self.kafka_security_protocol != "PLAINTEXT" and self.embedded_broker:
            raise ValueError(
                "REALNAME_KAFKA_SECURITY_PROTOCOL is for the brokers of REALNAME_BROKERS, which is "
                "not set; the embedded broker is spoken to in the clear on the loopback"
            )
        if (self.kafka_ssl_certfile is None) != (self.kafka_ssl_keyfile is None):
            raise ValueError(
                "REALNAME_KAFKA_SSL_CERTFILE and REALNAME_KAFKA_SSL_KEYFILE go together"
            )
        return self


def _is_secret(name: str) -> bool:
    extra = Settings.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and extra.get("secret") is True


SECRETS: Final = tuple(name for name in Settings.model_fields if _is_secret(name))
"""Settings whose value is never printed and may stand in a file of its own."""


# --- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: the name as the operator wrote it, what is wrong with it, how to mend it."""

    name: str
    what: str
    mend: str


class SettingsError(Exception):
    """The settings cannot be used. `problems` has all that is wrong; no secret is in the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            "\n".join(
                ["the settings are not right:"]
                + [f"  {one.name}: {one.what}; {one.mend}" for one in self.problems]
            )
        )


def load_settings(**arguments: Any) -> Settings:
    """The settings of this process, from `arguments`, environment and files.

    Raises `SettingsError` with every problem found. An argument that is None counts as not given.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    problems = _unknown_variables(os.environ)
    secrets = _secret_files(os.environ, problems)
    written = _config_file(os.environ, problems)

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                init_settings,
                env_settings,
                InitSettingsSource(settings_cls, secrets),
                InitSettingsSource(settings_cls, written),
            )

    settings = None
    try:
        settings = Loaded(**given)
    except ValidationError as error:
        problems += _invalid_values(error, given)
    if problems or settings is None:
        raise SettingsError(problems)
    return settings


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _known_variables() -> dict[str, str]:
    """Every variable that may be set, and the setting it is about."""
    known = {_variable(name): name for name in Settings.model_fields}
    known |= {f"{_variable(name)}_FILE": name for name in SECRETS}
    return known


def _unknown_variables(environ: Mapping[str, str]) -> list[Problem]:
    """Misspelt variables. One that resembles none of ours belongs to somebody else's tooling."""
    known = [*_known_variables(), CONFIG_VARIABLE]
    problems = []
    for variable in sorted(environ):
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            near = difflib.get_close_matches(variable.upper(), known, n=1, cutoff=_MISSPELT_RATIO)
            if near:
                mend = f"did you mean {near[0]}?"
                problems.append(Problem(variable, "there is no such setting", mend))
    return problems


def _read_secret(name: str, path: Path, origin: str, problems: list[Problem]) -> str | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        problems.append(Problem(origin, f"{path}: {reason}", "name a readable file"))
        return None
    if not text:
        problems.append(Problem(origin, f"{path} is empty", f"write {name} into it"))
        return None
    return text


def _secret_files(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name in SECRETS:
        variable = f"{_variable(name)}_FILE"
        path = environ.get(variable)
        if not path:
            continue
        if environ.get(_variable(name)):
            problems.append(
                Problem(variable, f"{_variable(name)} is set too", "set one of the two")
            )
        text = _read_secret(name, Path(path), variable, problems)
        if text is not None:
            values[name] = text
    return values


def _config_file(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    named = environ.get(CONFIG_VARIABLE)
    path = Path(named) if named else CONFIG_FILE
    if not named and not path.exists():
        return {}
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(Problem(CONFIG_VARIABLE, f"{path}: {error.strerror}", "name a TOML file"))
        return {}
    except ValueError as error:
        # Not the parser's own words on values: they may quote a secret; the place is enough.
        place = re.search(r"\(at [^)]*\)", str(error))
        where = f" {place.group()}" if place else ""
        problems.append(Problem(str(path), f"not TOML{where}", "mend that line"))
        return {}
    values: dict[str, Any] = {}
    for key, value in written.items():
        name = key.removesuffix("_file")
        if key in Settings.model_fields:
            values[key] = value
        elif name in SECRETS and isinstance(value, str):
            if name in written:
                problems.append(Problem(f"{path}: {key}", f"{name} is set too", "set one of them"))
            text = _read_secret(name, path.parent / value, f"{path}: {key}", problems)
            if text is not None:
                values[name] = text
        else:
            known = [*Settings.model_fields, *(f"{one}_file" for one in SECRETS)]
            near = difflib.get_close_matches(key, known, n=1)
            mend = f"did you mean {near[0]}?" if near else "take it out"
            problems.append(Problem(f"{path}: {key}", "there is no such setting", mend))
    return values


def _invalid_values(error: ValidationError, given: Mapping[str, Any]) -> list[Problem]:
    problems = []
    for one in error.errors(include_url=False, include_context=False):
        what = one["msg"].removeprefix("Value error, ")
        if not one["loc"]:
            problems.append(Problem("together", what, "mend one of them"))
            continue
        name = str(one["loc"][0])
        if name not in Settings.model_fields:
            problems.append(Problem(name, "there is no such setting", "take it out"))
            continue
        example = (Settings.model_fields[name].examples or [""])[0]
        problems.append(Problem(_variable(name), what, f"for example: {example}"))
    return problems


# --- the table for the docs ----------------------------------------------------------------------


def table() -> str:
    """All settings as a Markdown table, from the model itself."""
    rows = ["| variable | default | meaning | example |", "|---|---|---|---|"]
    for name, entry in Settings.model_fields.items():
        variable = f"`{_variable(name)}`"
        if name in SECRETS:
            variable += f"<br>`{_variable(name)}_FILE`"
        default = "" if entry.default in (None, "") else f"`{entry.default}`"
        example = (entry.examples or [""])[0]
        rows.append(f"| {variable} | {default} | {entry.description} | {example} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(), end="")
