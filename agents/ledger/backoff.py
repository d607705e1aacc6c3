"""The pause between one attempt and the next."""

import asyncio

from schemas import limits


class Backoff:
    """A pause that doubles, from `least_ms` up to `most_ms`; as for a broker, if not told."""

    def __init__(
        self,
        least_ms: int = limits.BROKER_RETRY_MS_MIN,
        most_ms: int = limits.BROKER_RETRY_MS_MAX,
    ) -> None:
        self._least_ms = least_ms
        self._most_ms = most_ms
        self._next_ms = least_ms

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._next_ms = self._least_ms

    async def sleep(self) -> None:
        """Pause, and make the next pause twice as long."""
        pause_ms, self._next_ms = self._next_ms, min(self._next_ms * 2, self._most_ms)
        await asyncio.sleep(pause_ms / 1000)
