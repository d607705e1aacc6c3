"""Ends transactions whose end the broker forgot.

What goes wrong in Kafka (4.3.1): a transaction is decided, and when its coordinator wants to write
the end into a partition, that partition has no leader at this moment - a single broker was killed
and comes back, or too many of the replicas are down. The coordinator takes the partition for
deleted, passes it over and calls the transaction complete. There it stays open: readers of
committed records wait at it for ever, and if the producer's next transaction in that partition is
aborted, what was committed is aborted with it.

How it is told from a transaction that is only not ended yet: the partition says that the producer
has one open; *after that* the coordinator says that the producer's last one is complete, so each
partition's marker was written, or given up; *after that* the partition still has the same one open.
Its result is then the coordinator's, and the marker is written from here.

Why it is the coordinator's: only the last transaction's result is known there. By induction the
forgotten one is always the last: this looks before any new transaction of the producer can begin,
whichever process is the producer then. Where that cannot be said any more, nothing is guessed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection
from typing import Final, NamedTuple

import structlog
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    for_code,
)
from aiokafka.structs import TopicPartition

from agents.ledger.backoff import Backoff
from agents.ledger.log import LogUnavailable, Refused
from agents.ledger.wire import (
    DescribeProducersRequest,
    DescribeTransactionsRequest,
    Marker,
    WriteTxnMarkersRequest,
)
from deployment import metrics
from schemas import limits

log: Final = structlog.get_logger("ledger.forgotten")

_OK: Final = 0
_NOT_AUTHORISED: Final = frozenset({29, 31, 53})
_UNKNOWN_ID: Final = 105
_OTHERS_WENT_ON: Final = frozenset({47, 52})
"""An old epoch, of the producer or of the coordinator: somebody else wrote there meanwhile."""

_COMPLETE: Final = {"CompleteCommit": True, "CompleteAbort": False}
"""Every marker was written, or given up; and whether it was a commit."""


class Producer(NamedTuple):
    """A producer as its coordinator knows it."""

    id: int
    epoch: int


class _Last(NamedTuple):
    """What the coordinator knows of a producer's last transaction."""

    producer: Producer
    state: str


class _Open(NamedTuple):
    """A transaction that a partition holds open."""

    place: TopicPartition
    producer: Producer
    start: int
    coordinator_epoch: int


class _CannotLook(Exception):
    """The broker does not let us, or does not know how; the text says what."""


class Forgotten:
    """Looks after the transactions of one transactional id in the places it may write to.

    Brokers that do not answer, and places without a leader, are waited for without end: the
    caller's deadline ends that.
    """

    def __init__(
        self, client: AIOKafkaClient, transactional_id: str, places: Collection[TopicPartition]
    ) -> None:
        self._client = client
        self._id = transactional_id
        self._places = frozenset(places)
        self._known: set[int] = set()
        """The ids this producer had, as far as seen."""
        self._looks = True

    async def end(self, own: Producer | None = None) -> None:
        """End the last transaction wherever its end was forgotten.

        Returns once none can be forgotten any more before the producer's next step: the last one is
        complete and ended everywhere, or still open at the coordinator, which aborts it when a
        producer starts. `own`: who asks, if it is to begin a transaction; where the coordinator
        knows a newer one, that one looks for itself.

        Raises LogUnavailable, Refused.
        """
        pause = Backoff(limits.TRANSACTION_RETRY_MS)
        try:
            while self._looks and not await self._ended(own):
                await pause.sleep()
        except _CannotLook as error:
            self._give_up(error)

    async def refuse_unknown(self, new: Producer) -> None:
        """Raise Refused if an earlier producer's transaction is open after `new` was begun.

        A producer begins when the last transaction is complete, and then its result is gone. So
        what was decided, and forgotten, between the last look and that moment would be a guess.
        """
        self._known.add(new.id)
        pause_ms = limits.BROKER_RETRY_MS_MIN
        try:
            while self._looks:
                left = {
                    one
                    for one in await self._open(self._places)
                    if one.producer.id in self._known
                    and (one.producer.id != new.id or one.producer.epoch < new.epoch)
                }
                if not left:
                    return
                if pause_ms > limits.FORGOTTEN_PAUSE_MS_MAX:
                    raise self._unknown(left)
                # Perhaps it was asked of a broker that is behind.
                await self._client.force_metadata_update()
                await asyncio.sleep(pause_ms / 1000)
                pause_ms *= 2
        except _CannotLook as error:
            self._give_up(error)

    def _give_up(self, error: _CannotLook) -> None:
        log.warning("cannot look for forgotten transactions", producer=self._id, why=str(error))
        self._looks = False

    def _unknown(self, found: Collection[_Open]) -> Refused:
        return Refused(
            f"{_words(self._id, found)}. Whether it was committed is not known any more: see what "
            "the other topics have of it. kafka-transactions.sh abort ends it as an aborted one"
        )

    async def _ended(self, own: Producer | None) -> bool:
        """Look once, and end what is found; False where to look again."""
        # In this order: what is open now, and decided later, is not taken for forgotten.
        before = await self._open(self._places)
        last = await self._last()
        if last is None or (own is not None and last.producer != own):
            return True
        self._known.add(last.producer.id)
        if last.state not in _COMPLETE:
            # One that is decided may be forgotten at any moment, so it is waited for.
            return not last.state.startswith("Prepare")
        mine = {one for one in before if one.producer.id == last.producer.id}
        if not mine:
            return True
        still = mine & await self._open({one.place for one in mine})
        if not still:
            return True
        commit = _COMPLETE[last.state]
        if any(last.producer.epoch - one.producer.epoch > 1 for one in still):
            # Not the last one, whose end raised the epoch by one (an older worker's by none).
            # Somebody did not look.
            raise self._unknown(still)
        await self._write(still, commit)
        return False

    # --- requests --------------------------------------------------------------------------------

    async def _open(self, places: Collection[TopicPartition]) -> set[_Open]:
        """The open transactions in these places, of any producer."""
        found: set[_Open] = set()

        async def ask(leader: int, group: list[TopicPartition]) -> set[TopicPartition]:
            try:
                answer = await self._client.send(leader, DescribeProducersRequest(group))
            except (IncompatibleBrokerVersion, NotImplementedError) as error:
                raise _CannotLook(str(error)) from error
            except KafkaError as error:
                log.info("producers are asked for again", error=repr(error))
                return set()
            done, codes = set(), set()
            for topic, partitions, _ in answer.topics:
                for partition, code, _, producers, _ in partitions:
                    place = TopicPartition(topic, partition)
                    if code in _NOT_AUTHORISED:
                        raise _CannotLook(f"{topic}: {for_code(code).__name__}")
                    if code != _OK:
                        codes.add(code)
                        continue
                    done.add(place)
                    for producer, epoch, _, _, coordinator_epoch, start, _ in producers:
                        if start >= 0:
                            found.add(
                                _Open(place, Producer(producer, epoch), start, coordinator_epoch)
                            )
            if codes:
                log.info("producers are asked for again", places=len(group), codes=sorted(codes))
            return done

        await self._at_leaders(places, ask)
        return found

    async def _last(self) -> _Last | None:
        """What the coordinator knows; None if nothing."""
        pause = Backoff()
        while True:
            try:
                coordinator = await self._client.coordinator_lookup(
                    CoordinationType.TRANSACTION, self._id
                )
                answer = await self._client.send(
                    coordinator,
                    DescribeTransactionsRequest([self._id]),
                    group=ConnectionGroup.COORDINATION,
                )
                ((code, _, state, _, _, producer, epoch, _, _),) = answer.transaction_states
                if code == _OK:
                    return _Last(Producer(producer, epoch), state)
                if code == _UNKNOWN_ID:
                    return None
                if code in _NOT_AUTHORISED:
                    raise _CannotLook(f"{self._id}: {for_code(code).__name__}")
                log.info("the last transaction is asked for again", producer=self._id, code=code)
            except (IncompatibleBrokerVersion, NotImplementedError) as error:
                raise _CannotLook(str(error)) from error
            except KafkaError as error:
                if not (isinstance(error, KafkaConnectionError) or error.retriable):
                    raise LogUnavailable(f"transaction coordinator: {error!r}") from error
            await pause.sleep()

    async def _write(self, forgotten: Collection[_Open], commit: bool) -> None:
        """Write the markers that are missing.

        With the epochs the partitions have: a newer transaction, which has a higher one, cannot be
        hit, not even by a request that is lost and arrives late.
        """
        by_place = {one.place: one for one in forgotten}

        async def ask(leader: int, group: list[TopicPartition]) -> set[TopicPartition]:
            alike: dict[tuple[Producer, int], list[TopicPartition]] = defaultdict(list)
            for place in group:
                one = by_place[place]
                alike[one.producer, max(0, one.coordinator_epoch)].append(place)
            markers = [
                Marker(producer.id, producer.epoch, commit, places, coordinator_epoch)
                for (producer, coordinator_epoch), places in alike.items()
            ]
            try:
                answer = await self._client.send(leader, WriteTxnMarkersRequest(markers))
            except (KafkaError, NotImplementedError) as error:
                raise LogUnavailable(f"the end of a transaction: {error!r}") from error
            done = set()
            for _, topics, _ in answer.markers:
                for topic, partitions, _ in topics:
                    for partition, code, _ in partitions:
                        place = TopicPartition(topic, partition)
                        if code in _NOT_AUTHORISED:
                            raise Refused(
                                f"{_words(self._id, forgotten)}. It was "
                                f"{'committed' if commit else 'aborted'}, and this worker would "
                                "end it so, but may not: let it Alter the cluster, and restart it"
                            )
                        if code in _OTHERS_WENT_ON:
                            done.add(place)  # and looked at again
                        elif code == _OK:
                            done.add(place)
                            result = "commit" if commit else "abort"
                            metrics.LEDGER_FORGOTTEN_ENDS.labels(result).inc()
                            log.warning(
                                "the broker forgot to end a transaction: ended",
                                producer=self._id,
                                place=f"{topic}-{partition}",
                                starts=by_place[place].start,
                                result=result,
                            )
                        else:
                            # Also where it stands, but not on enough replicas: written again until
                            # it does, for a second one changes nothing.
                            log.info("a marker is written again", place=place, code=code)
            return done

        await self._at_leaders(by_place, ask)

    async def _at_leaders(
        self,
        places: Collection[TopicPartition],
        ask: Callable[[int, list[TopicPartition]], Awaitable[set[TopicPartition]]],
    ) -> None:
        """Ask the places' leaders until each place is answered for; `ask` says which are."""
        left = set(places)
        pause = Backoff()
        while True:
            by_leader: dict[int, list[TopicPartition]] = defaultdict(list)
            for place in sorted(left):
                leader = self._client.cluster.leader_for_partition(place)
                if leader is not None and leader >= 0:
                    by_leader[leader].append(place)
            done = await asyncio.gather(*(ask(*one) for one in by_leader.items()))
            left.difference_update(*done)
            if not left:
                return
            await self._client.force_metadata_update()
            await pause.sleep()


def _words(identity: str, found: Collection[_Open]) -> str:
    where = ", ".join(
        f"{place.topic}-{place.partition} from offset {start} on (producer {producer.id}, epoch "
        f"{producer.epoch}, coordinator's epoch {coordinator_epoch})"
        for place, producer, start, coordinator_epoch in sorted(found)
    )
    return f"the broker forgot to end a transaction of {identity} in {where}"
