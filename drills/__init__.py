"""Drills: what must survive is run as real processes under load, broken on purpose, and judged.

`people` is who sends what, `load` the process that sends it and notes what it saw, `stage` the
servers and processes of a run, `faults` what is done to them, `planted` errors that must be found
out, `proxy` a network that misbehaves, `run` one run from its seed to its verdict.
"""
