"""The ledger under simulated time, schedules and faults, all of it a function of a seed."""
