"""Markets of feeds whose numbering is hard to judge: `tests.sequencing.numberings`, one symbol a partition.

The expected outcome of each message is what the specification says of the whole stream, whatever crashes in between.
`tests.sequencing.test_numberings` compares the specification itself with the truth.
"""

import json
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from k2.model.verdicts import CONFLICT, STORED
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.tracker_kernel import effective_time
from tests.sequencing.numberings import KINDS, Sent, script
from tests.simulation.market import WINDOW_SECONDS, Log, Market, Published, Trade

__all__ = ["publish_numberings"]

CLOCKS_JUMP: Final = {"weekend", "dated_ahead_in_kafka_too"}
"""Kinds that advance Kafka's clock by more than the window. In a partition with other symbols they would expire what
those still need."""
MESSAGES_MAX: Final = 700
SIDES: Final = (None, "buy", "sell")


def publish_numberings(seed: int) -> Market:
    """Return a market of one to three feeds; the same for the same seed."""
    rng = Random(f"numberings of market {seed}")
    count = rng.randint(1, 3)
    seeds = (rng.randrange(10**6) for _ in range(1_000))
    chosen = [one for one in seeds if count == 1 or [*KINDS][one % len(KINDS)] not in CLOCKS_JUMP][:count]
    logs = {("trades", partition): _log(f"N{partition}", one, rng) for partition, one in enumerate(chosen)}
    return Market(logs, WINDOW_SECONDS, is_across=False)


def _log(symbol: str, seed: int, rng: Random) -> Log:
    log = Log("k2")
    sent = script(seed).sent
    start = rng.randint(0, max(len(sent) - MESSAGES_MAX, 0))
    for one, verdict, session in _judged(sent[start : start + MESSAGES_MAX]):
        if rng.random() < 0.02:
            log.end += rng.randint(1, 5)
        trade = _trade(symbol, one, session)
        value = json.dumps(_message(one, trade)).encode()
        kind = {STORED: "trade", CONFLICT: "conflict", None: "unreadable"}.get(verdict, "copy")
        is_stored = trade if kind == "trade" else None
        log.messages.append(Published(log.end, one.kafka_timestamp // 1_000, b"x", value, kind, is_stored))
        log.end += 1
    return log


def _judged(sent: list[Sent]) -> Iterator[tuple[Sent, int | None, int]]:
    """Yield each message with its verdict and session; None if it is dated too far ahead to be accepted."""
    numbers, contents = SymbolSequence(), dict[object, int]()
    for one in sent:
        kafka_timestamp = one.kafka_timestamp // 1_000 * 1_000
        if one.timestamp - kafka_timestamp > 86_400_000_000:
            yield one, None, 0
            continue
        named = one.trade_id if one.trade_id != str(one.sequence) else None
        content = contents.setdefault((one.price, one.quantity, one.side, named), len(contents) + 2)
        at = effective_time(one.timestamp, kafka_timestamp)
        placement = numbers.place(one.sequence, at, content, is_named=named is not None)
        yield one, placement.verdict, placement.session


def _trade(symbol: str, one: Sent, session: int) -> Trade:
    return Trade(
        exchange="x",
        symbol=symbol,
        session=session,
        sequence=one.sequence,
        trade_id=str(one.sequence) if one.trade_id is None else one.trade_id,
        price=f"{one.price}.{0:018d}",
        quantity=f"{one.quantity}.0",
        side=SIDES[one.side],
        timestamp=one.timestamp,
    )


def _message(one: Sent, trade: Trade) -> dict[str, Any]:
    message: dict[str, Any] = trade._asdict()
    del message["session"]
    if one.trade_id is None:
        del message["trade_id"]
    return message
