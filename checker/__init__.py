"""Checks a whole deployment against the promises, from nothing but its topics and tables.

`history` is the data, `judge` decides over it without IO (so it also judges logs in memory),
`replay`, `order` and `tables` are its parts, `read` brings the data from Kafka and PostgreSQL,
`story` prints what was found.
"""
