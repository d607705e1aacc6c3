"""The page about the tables, made from the comments that the database itself holds.

`python -m projector.tables` prints it for the database of the settings.
"""

import asyncio

from deployment.settings import load_settings
from projector.migrate import SCHEMA
from projector.store import Connection, connect

_HEAD = f"""# Tables

What the projector keeps in PostgreSQL, schema `{SCHEMA}`. This page is made from the comments in
the database (`python -m projector.tables`); a test holds the two together. Times are UTC instants,
ids are text, persons are keyed hashes. Every commit equals the fold of the topic prefixes that
`progress` names; `realname rebuild` makes everything but `migrations` and `reason_codes` anew.
"""


async def describe(connection: Connection) -> str:
    """The page, as Markdown."""
    lines = [_HEAD]
    relations = await connection.fetch(
        "select oid, relname, relkind = 'v' as is_view, obj_description(oid, 'pg_class') as words "
        "from pg_class where relnamespace = $1::regnamespace and relkind in ('r', 'v') "
        "order by relkind, relname",
        SCHEMA,
    )
    for relation in relations:
        kind = "view" if relation["is_view"] else "table"
        lines += [f"## {relation['relname']} ({kind})", "", relation["words"] or "Internal.", ""]
        lines += ["| column | type | meaning |", "|---|---|---|"]
        columns = await connection.fetch(
            "select attname, format_type(atttypid, atttypmod) as type, "
            "col_description(attrelid, attnum) as words from pg_attribute "
            "where attrelid = $1 and attnum > 0 and not attisdropped order by attnum",
            relation["oid"],
        )
        lines += [
            f"| `{one['attname']}` | {one['type']} | {one['words'] or ''} |" for one in columns
        ]
        lines.append("")
    return "\n".join(lines)


async def _main() -> None:
    settings = load_settings()
    settings.require("database")
    assert settings.database is not None
    connection = await connect(settings.database)
    try:
        print(await describe(connection), end="")
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(_main())
