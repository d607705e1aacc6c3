"""What two checkouts' costs come to, turn by turn."""

from bench.against import words


def test_a_machine_that_is_slow_now_and_then_tells_the_same() -> None:
    machine = [1.0, 2.0, 1.0, 3.0]
    told = words([9 * slow for slow in machine], [10 * slow for slow in machine])
    assert told == "0.900 ± 0.000 of 4 turns, median 13.5 and 15.0 µs an input"
