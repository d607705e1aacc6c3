"""A database with the tables, and topics of one's own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from deployment import topics
from deployment.catalog import Catalog, load_catalog
from projector.migrate import migrate
from tests.projector import writing


@pytest.fixture
async def tables(database: str) -> AsyncIterator[Any]:
    """A connection to a database with the tables."""
    connection = await writing.connect(database)
    await migrate(connection)
    yield connection
    await connection.close()


@pytest.fixture
async def catalog(broker: str, prefix: str) -> Catalog:
    """Topics of three partitions, made."""
    catalog = load_catalog(prefix, partitions=3)
    await topics.apply(broker, catalog, replication=1)
    return catalog
