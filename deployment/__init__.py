"""How a deployment is set up: settings, secrets, topics, logs, metrics.

What the processes of a deployment share and no single one of them owns. Knows the schemas and
nothing of the rules, the ledger or the projection.
"""
