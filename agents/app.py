"""The Faust application that hosts the deciding agent and the ledger.

Faust gives the application, its agents and their life; it talks to no broker itself. The agent
reads turns from a channel in memory, and the ledger, a service of the application, fills it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import faust
from faust.app.base import BootStrategy
from mode import Service

from agents.ledger.ledger import Ledger
from agents.ledger.log import Log
from agents.ledger.turn import Decide, answer
from agents.references import References


class LedgerService(Service):
    """The ledger's life within the application's."""

    def __init__(self, ledger: Ledger, **options: Any) -> None:
        super().__init__(**options)
        self.ledger: Final = ledger

    async def on_start(self) -> None:
        await self.ledger.start()

    async def on_stop(self) -> None:
        # Awaited in full: a background task would be cancelled in the middle of a commit.
        await self.ledger.stop()


class _Boot(BootStrategy):
    """Agents first, the ledger last: so it stops first, while the agents still answer it."""

    def server(self) -> Iterable[Any]:
        assert isinstance(self.app, RealnameApp)
        return self._chain(self.sensors(), self.agents(), [self.app.ledger])


class RealnameApp(faust.App):
    """A Faust application without a consumer, producer, conductor, tables or web server of Faust's.

    `decide` answers the turns of `source`.
    """

    BootStrategy = _Boot

    def __init__(self, source: Log, references: References, rules: str, decide: Decide) -> None:
        super().__init__(
            "realname",
            broker="kafka://none",
            store="memory://",
            autodiscover=False,
            web_enabled=False,
        )
        turns: Any = self.channel(maxsize=source.layout.partitions)
        self.ledger: Final = LedgerService(
            Ledger(source, references, rules, lambda turn: turns.put(turn))
        )

        @self.agent(turns, name="deciding")
        async def deciding(stream: Any) -> None:
            async for turn in stream:
                await answer(turn, decide)

    async def on_first_start(self) -> None:
        """Make no folders for tables: there are none."""

    async def on_start(self) -> None:
        await super().on_start()
        # Without a consumer nobody else would; a channel that is held back answers nothing.
        self.flow_control.resume()
