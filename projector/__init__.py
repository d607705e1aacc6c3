"""Projects the result topics into PostgreSQL, exactly once.

The way of a record: `source` (the broker) → `records` (bytes to values) → `merge` (a person's
versions in order, across topics) → `fold` (values to rows) → `store` (rows and offsets, one
transaction). `main` runs the loop, `rebuild` starts it over.
"""
