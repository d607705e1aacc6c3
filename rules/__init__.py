"""What is decided: the rules of the operating manual, pure.

`decide` turns a person's state, a command, the broker's time and the reference records into a
decision; `evolve` turns events into state. No clock, no randomness, no IO: the same inputs give
the same decision on every machine, today and in a replay.
"""
