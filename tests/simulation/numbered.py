"""Markets of feeds whose numbering is hard to judge: `tests.sequencing.numberings`, one symbol a partition.

The expected outcome of each message is what the specification says of the whole stream, whatever crashes in between.
`tests.sequencing.test_numberings` compares the specification itself with the truth.
"""

import json
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any, Final

from k2.model.verdicts import CONFLICT, STORED
from k2.sequencing.effective_time import effective_time
from k2.sequencing.sequence import SymbolSequence
from tests.sequencing.numberings import KINDS, Sent, script
from tests.simulation.market import WINDOW_SECONDS, Log, Market, Published, Trade

__all__ = ["publish_numberings"]

CLOCKS_JUMP: Final = ("weekend", "dated_ahead_in_kafka_too")
"""Kinds that advance Kafka's clock by more than the window. In a job with other symbols they would expire what those
still need."""
FEEDS: Final = 3
"""The number of feeds in a market."""
MESSAGES_MAX: Final = 400
"""The most messages of a feed."""
BEFORE_MAX: Final = 250
"""The most messages of a feed before one that is hard to judge."""
SIDES: Final = (None, "buy", "sell")


def publish_numberings(turn: int) -> Market:
    """Return a market of three feeds, or of one whose clock jumps; the same for the same turn.

    The markets of successive turns have feeds of every kind, some each.
    """
    rng = Random(f"numberings of market {turn}")
    kinds = _markets()[turn % len(_markets())]
    seeds = [rng.randrange(10**6) * len(KINDS) + [*KINDS].index(kind) for kind in kinds]
    logs = {("trades", partition): _log(f"N{partition}", one, rng) for partition, one in enumerate(seeds)}
    return Market(logs, WINDOW_SECONDS, is_multi_partition=False)


@cache
def _markets() -> list[tuple[str, ...]]:
    """Return the kinds of the feeds of each market."""
    others = [kind for kind in KINDS if kind not in CLOCKS_JUMP]
    markets = [*(tuple(others[first : first + FEEDS]) for first in range(0, len(others), FEEDS))]
    markets += [(kind,) for kind in CLOCKS_JUMP]
    Random("markets").shuffle(markets)
    return markets


def _log(symbol: str, seed: int, rng: Random) -> Log:
    log = Log("k2")
    sent = script(seed).sent
    start = _start(sent, rng)
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


def _start(sent: list[Sent], rng: Random) -> int:
    """Return where the published part of a script starts: a little before a message that is hard to judge."""
    session, hard = 1, []
    for place, (_, verdict, found) in enumerate(_judged(sent)):
        if verdict != STORED or found != session:
            hard.append(place)
        session = found
    place = rng.choice(hard or range(len(sent)))
    return max(place - rng.randint(0, BEFORE_MAX), 0)


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
