"""The ledger: the transactional core that turns commands into state changes exactly once."""
