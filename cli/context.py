"""Which deployment a command is about: settings, topics, and where its servers are.

Unset REALNAME_BROKERS and REALNAME_DATABASE mean the embedded servers of the home, when they run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cli.errors import WRONG, Trouble
from deployment.catalog import Catalog, load_catalog
from deployment.secrets import FILE, with_secrets
from deployment.settings import Settings, load_settings


@dataclass(frozen=True)
class Deployment:
    """What a command needs to know; servers are looked for when first asked for."""

    settings: Settings

    @cached_property
    def catalog(self) -> Catalog:
        """The topics. Raises CatalogError."""
        return load_catalog(self.settings.topic_prefix, partitions=self.settings.partitions)

    @cached_property
    def own_broker(self) -> bool:
        """Whether the broker is the embedded one of the home: nothing is set, or its address is,
        as `realname env` tells it."""
        if self.settings.brokers is None:
            return True
        if not (self.settings.home / "broker").exists():
            return False
        from local.broker import Broker

        return Broker(self.settings.home).bootstrap == self.settings.brokers

    @cached_property
    def own_database(self) -> bool:
        """As `own_broker`, of the database."""
        if self.settings.database is None:
            return True
        if not (self.settings.home / "database" / "password").exists():
            return False
        from local.database import Database

        return Database(self.settings.home).uri == self.settings.database

    @cached_property
    def brokers(self) -> str:
        """`host:port,…`. Raises Trouble when nothing is set and no embedded broker runs."""
        if self.settings.brokers is not None:
            return self.settings.brokers
        from local.broker import Broker

        broker = Broker(self.settings.home)
        if broker.pid is None:
            raise _none("broker", "REALNAME_BROKERS", self.settings)
        return broker.bootstrap

    @cached_property
    def database(self) -> str:
        """A PostgreSQL URI. Raises Trouble when nothing is set and no embedded one runs."""
        if self.settings.database is not None:
            return self.settings.database
        from local.database import Database

        database = Database(self.settings.home)
        if database.pid is None:
            raise _none("database", "REALNAME_DATABASE", self.settings)
        return database.uri

    @property
    def kafka(self) -> dict[str, Any]:
        """Arguments of every aiokafka client of this deployment."""
        return {"bootstrap_servers": self.brokers, **self.options}

    @property
    def options(self) -> dict[str, Any]:
        """As `kafka`, without the brokers."""
        return self.settings.kafka_options()

    @property
    def person_secret(self) -> bytes:
        """The key of person ids and name tags. Raises SettingsError when not set."""
        self.settings.require("person_secret")
        assert self.settings.person_secret is not None
        return self.settings.person_secret

    @property
    def code_keys(self) -> dict[int, bytes]:
        """The keys of codes to scan. Raises SettingsError when not set."""
        self.settings.require("code_keys")
        assert self.settings.code_keys is not None
        return self.settings.code_keys

    @property
    def replication(self) -> int | None:
        """Copies to ask for when nobody says: the embedded broker is alone."""
        return 1 if self.own_broker else None

    def resolved(self, *, database: bool) -> Settings:
        """The settings with the servers that were found, as a process needs them."""
        found = {"brokers": self.brokers} | ({"database": self.database} if database else {})
        return self.settings.model_copy(update=found)

    def subject(self, person: str | None, id_number: str | None) -> str:
        """The person id that was given, or that of an ID number. Raises Trouble."""
        if (person is None) == (id_number is None):
            raise Trouble("say who: one of a person id and --id-number", "see --help", WRONG)
        from cli.people import id_of, person_id_of

        if person is not None:
            return person_id_of(person)
        assert id_number is not None
        return id_of(self.person_secret, id_number)


def load_deployment() -> Deployment:
    """From environment and files. Raises SettingsError, SecretsError."""
    settings = load_settings()
    if (settings.home / FILE).exists():
        settings = with_secrets(settings)
    return Deployment(settings)


def _none(what: str, variable: str, settings: Settings) -> Trouble:
    return Trouble(
        f"there is no {what}: {variable} is not set, and none runs in {settings.home}",
        f"run `realname up`, or set {variable}",
    )
