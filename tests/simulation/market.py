"""What is published in one simulation: messages with every fault, each with its kind and trade."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final, NamedTuple

__all__ = ["Log", "Market", "PartitionKey", "Published", "Trade", "has_mostly_ids", "publish"]

FIRST_MILLISECOND: Final = 1_700_000_000_000
MICROSECONDS: Final = 1000
NOISE: Final = {"k2": 0.06, "binance-spot": 0.5}
"""How many messages without a trade there are for each trade, by venue; few partitions are of the second."""
WINDOW_SECONDS: Final = 86_400
"""A window longer than the whole market, unless a seed has a short one."""
IDS_EVERY: Final = 4
PartitionKey = tuple[str, int]
"""A topic partition."""


class Trade(NamedTuple):
    """One trade of the market, however often it is published."""

    exchange: str
    symbol: str
    session: int
    """From 1; 0 if the trade has no number."""
    sequence: int | None
    trade_id: str | None
    price: str
    quantity: str
    side: str | None
    timestamp: int
    """Microseconds; different for each trade of a symbol."""


class Published(NamedTuple):
    """One message in a partition.

    `kind` is `trade`, `copy` or `conflict` of one, `correction`, `unreadable` or `skipped`. A `trade` or `correction`
    may be a copy as well: the first of equal ones is stored.
    """

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    kind: str
    trade: Trade | None = None
    correction: tuple[Any, ...] | None = None
    """What it says, for a `correction`."""


@dataclass
class Log:
    """One topic partition: messages in the order of their offsets, with holes in between."""

    venue: str
    messages: list[Published] = field(default_factory=list)
    end: int = 0
    """The offset after the last message, or after a marker that follows it."""


@dataclass
class Market:
    """Everything that is published."""

    logs: dict[PartitionKey, Log]
    window_seconds: int
    is_multi_partition: bool
    """Whether a symbol's trades are in several partitions."""

    @property
    def topics(self) -> dict[str, str]:
        """Each topic's venue."""
        return {topic: log.venue for (topic, _), log in self.logs.items()}


@dataclass
class _Symbol:
    exchange: str
    symbol: str
    style: str
    """`number`, `id` or `nothing`: what distinguishes its trades."""
    homes: list[PartitionKey]
    copied: float = 0.13
    """The probability that a trade is published once more."""
    far: tuple[float, ...] = (0.1, 0.1, 2.2, 50.2)
    """How many trades later."""


class _Copy(NamedTuple):
    """A publication of a trade, perhaps one of several."""

    place: float
    """The index among its symbol's trades."""
    partition: PartitionKey
    trade: Trade
    kind: str = "trade"


def has_mostly_ids(seed: int) -> bool:
    """Return whether most symbols have ids in place of numbers: one seed in `IDS_EVERY`, after the first ones."""
    return seed >= IDS_EVERY and seed % IDS_EVERY == IDS_EVERY - 1


def publish(seed: int, *, multi_partition: bool) -> Market:
    """Return a market of a few hundred messages; the same for the same seed."""
    rng = Random(f"market {seed} {multi_partition}")
    window_seconds = WINDOW_SECONDS if multi_partition else rng.choice([60, WINDOW_SECONDS])
    market = Market(_logs(rng), window_seconds, multi_partition)
    symbols = _symbols(rng, market)
    if has_mostly_ids(seed):
        symbols = _mostly_with_ids(Random(f"ids {seed}"), symbols)
    queues = [_copies(rng, symbol, window_seconds) for symbol in symbols]
    clock = FIRST_MILLISECOND
    while queues := [queue for queue in queues if queue]:
        queue = rng.choice(queues)
        # A symbol is active for a while, so that polls differ in their content.
        for copy in itertools.islice(_pop(queue), rng.randint(1, 6)):
            clock += rng.randint(0, 2_000)
            log = market.logs[copy.partition]
            _append(rng, log, clock, copy)
            if rng.random() < 0.015:
                _repeat(rng, log, clock)
    for log in market.logs.values():
        log.end += rng.choice([0, 0, 1, 3])
    return market


def _pop(queue: list[_Copy]) -> Iterator[_Copy]:
    while queue:
        yield queue.pop(0)


def _logs(rng: Random) -> dict[PartitionKey, Log]:
    logs = {("trades", partition): Log("k2") for partition in range(rng.randint(1, 3))}
    logs |= {("trades.more", partition): Log("k2") for partition in range(rng.randint(0, 2))}
    logs |= {("ticks", partition): Log("binance-spot") for partition in range(rng.randint(0, 1))}
    return logs


def _symbols(rng: Random, market: Market) -> Iterator[_Symbol]:
    k2 = [partition for partition, log in market.logs.items() if log.venue == "k2"]
    for number in range(rng.randint(3, 6)):
        style = rng.choice(["number", "number", "number", "id", "nothing"])
        homes = rng.sample(k2, rng.randint(1, len(k2))) if market.is_multi_partition else [rng.choice(k2)]
        yield _Symbol(rng.choice(["x", "y"]), f"S{number}", style, homes)
    for partition, log in market.logs.items():
        if log.venue == "binance-spot":
            yield _Symbol("binance", "BTCUSDT", "number", [partition])


def _mostly_with_ids(rng: Random, symbols: Iterator[_Symbol]) -> Iterator[_Symbol]:
    """Let most symbols have ids in place of numbers, and copies of trades that were stored long before."""
    for symbol in symbols:
        is_changed = symbol.style == "number" and symbol.exchange != "binance" and rng.random() < 0.8
        yield replace(symbol, style="id", copied=0.5, far=(20.2, 50.2)) if is_changed else symbol


def _copies(rng: Random, symbol: _Symbol, window_seconds: int) -> list[_Copy]:
    """Return a symbol's trades in publishing order: some late, some twice, some never, some with other content."""
    placed: list[_Copy] = []
    # If a symbol is in several partitions, only the order of reading separates two sessions.
    sessions = 1 if len(symbol.homes) > 1 else rng.choice([1, 1, 2, 3])
    place = 0
    for trade, must_arrive_in_order in _trades(rng, symbol, sessions):
        place += 1
        if not must_arrive_in_order and rng.random() < 0.08:
            continue
        delay = 0.0 if must_arrive_in_order or rng.random() > 0.1 else rng.choice([1.5, 4.5, 30.5])
        placed.append(_Copy(place + delay, rng.choice(symbol.homes), trade))
        if symbol.style == "nothing":
            continue
        while rng.random() < symbol.copied:
            far = rng.choice(symbol.far)
            placed.append(_Copy(place + delay + far, rng.choice(symbol.homes), trade))
        # If there are several partitions, the order of reading decides which of two contents is stored.
        may_conflict = symbol.style == "number" or window_seconds == WINDOW_SECONDS
        if may_conflict and len(symbol.homes) == 1 and rng.random() < 0.05 and not _is_near_a_conflict(placed, trade):
            far = rng.choice([0.1, 2.2, 50.2])
            placed.append(_Copy(place + delay + far, symbol.homes[0], _differing(rng, trade), "conflict"))
    return sorted(placed, key=lambda copy: copy.place)


def _is_near_a_conflict(placed: list[_Copy], trade: Trade) -> bool:
    """Return whether a number at most 64 before is in conflict: two of them in succession would look like a restart."""
    if trade.sequence is None:
        return False
    near = range(trade.sequence - 64, trade.sequence)
    return any(copy.kind == "conflict" and copy.trade.sequence in near for copy in placed)


def _differing(rng: Random, trade: Trade) -> Trade:
    """Return a trade with another price, quantity or side."""
    return rng.choice(
        [
            trade._replace(price=f"{rng.randint(0, 10**6)}.{rng.randint(0, 10**18 - 1):018d}"),
            trade._replace(quantity=f"{rng.randint(10**4 + 1, 10**5)}.5"),
            trade._replace(side={"buy": "sell", "sell": "buy", None: "buy"}[trade.side]),
        ]
    )


def _trades(rng: Random, symbol: _Symbol, sessions: int) -> Iterator[tuple[Trade, bool]]:
    """Yield trades as they happen, each with whether it must be published, and in order.

    A session's first must be, because it shows that numbering restarted.
    """
    first = rng.randint(1, 1_000)
    # Constantly behind Kafka's time, like a capture that is replayed.
    clock = FIRST_MILLISECOND * MICROSECONDS - rng.randint(10**9, 10**12)
    for session in range(1, sessions + 1):
        length = rng.randint(4, 40)
        for place in range(length):
            clock += rng.randint(1, 3_000_000)
            must_arrive_in_order = place == 0
            number = first + place
            yield _trade(rng, symbol, session, number, clock), must_arrive_in_order


def _trade(rng: Random, symbol: _Symbol, session: int, number: int, clock: int) -> Trade:
    is_numbered = symbol.style == "number"
    is_binance = symbol.exchange == "binance"
    trade_id = {"number": f"{number}", "id": f"{symbol.symbol}-{session}-{number}", "nothing": None}[symbol.style]
    return Trade(
        exchange=symbol.exchange,
        symbol=symbol.symbol,
        session=session if is_numbered else 0,
        sequence=number if is_numbered else None,
        trade_id=trade_id,
        price=f"{rng.randint(0, 10**6)}.{rng.randint(0, 10**18 - 1):018d}",
        quantity=f"{rng.randint(1, 10**4)}.5",
        side=rng.choice(["buy", "sell"] if is_binance else ["buy", "sell", None]),
        timestamp=clock,
    )


def _append(rng: Random, log: Log, clock: int, copy: _Copy) -> None:
    trade = copy.trade
    if rng.random() < 0.05:
        log.end += rng.randint(1, 5)
    if rng.random() < NOISE[log.venue]:
        _add(log, clock, *_noise(rng, log.venue, trade))
    key = f"{trade.exchange}|{trade.symbol}".encode()
    _add(log, clock, key, _value(log.venue, trade), copy.kind, trade if copy.kind == "trade" else None)


def _repeat(rng: Random, log: Log, clock: int) -> None:
    """Publish a whole batch again, like a producer that never got the broker's response."""
    for message in log.messages[-rng.randint(2, 12) :]:
        _add(log, clock, message.key, message.value, message.kind, message.trade)


def _add(log: Log, clock: int, key: bytes | None, value: bytes | None, kind: str, trade: Trade | None = None) -> None:
    log.messages.append(Published(log.end, clock, key, value, kind, trade))
    log.end += 1


def _noise(rng: Random, venue: str, trade: Trade) -> tuple[bytes | None, bytes | None, str]:
    """Return the key, value and kind of a message that is not a trade."""
    good = _value(venue, trade)
    choices: list[tuple[bytes | None, bytes | None, str]] = [
        (b"cut", good[: rng.randrange(len(good))], "unreadable"),
        (b"tombstone", None, "unreadable"),
        (None, b"\xff\xfe not text \x00", "unreadable"),
        (b"\xff", b"[1, 2]\n", "unreadable"),
        (b"type", good.replace(b'": "', b'": ["', 1), "unreadable"),
    ]
    if venue == "binance-spot":
        choices += [
            (None, b'{"result":null,"id":1}', "skipped"),
            (None, b'{"result":null,"id":2}', "skipped"),
            (None, b'{"e":"depthUpdate","s":"BTCUSDT"}', "unreadable"),
        ]
    return rng.choice(choices)


def _value(venue: str, trade: Trade) -> bytes:
    return json.dumps(_binance(trade) if venue == "binance-spot" else _canonical(trade)).encode()


def _canonical(trade: Trade) -> dict[str, Any]:
    message: dict[str, Any] = trade._asdict()
    del message["session"]
    if trade.sequence is not None:
        del message["trade_id"]
    return message


def _binance(trade: Trade) -> dict[str, Any]:
    return {
        "e": "trade",
        "s": trade.symbol,
        "t": trade.sequence,
        "p": trade.price,
        "q": trade.quantity,
        "T": trade.timestamp,
        "m": trade.side == "sell",
    }
