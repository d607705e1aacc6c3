"""Measured beside others: the same work, on the same machine, in the same run."""
