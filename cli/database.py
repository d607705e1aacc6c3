"""A connection to the projection's database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

from cli.context import Deployment
from cli.errors import Trouble
from schemas.limits import PROJECTOR_CONNECT_MS_MAX, SECOND_MS


def address(uri: str) -> str:
    """Host, port and database of a URI, without user and password."""
    parts = urlsplit(uri)
    return f"{parts.hostname}:{parts.port or 5432}{parts.path}"


@asynccontextmanager
async def connected(
    deployment: Deployment,
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Raises Trouble when the database does not answer, and asyncpg's errors."""
    uri = deployment.database
    try:
        connection = await asyncpg.connect(uri, timeout=PROJECTOR_CONNECT_MS_MAX / SECOND_MS)
    except (OSError, TimeoutError):
        raise Trouble(
            f"the database does not answer at {address(uri)}",
            "check REALNAME_DATABASE; `realname up` starts an embedded one",
        ) from None
    try:
        yield connection
    finally:
        await connection.close()
