"""A partition of stocks: trades by id, and corrections and cancels of them, some of which come before their trade."""

from random import Random
from typing import Any, Final, NamedTuple

from tests.simulation.market import FIRST_MILLISECOND, MICROSECONDS, Log, Market, Published, Trade

__all__ = ["CORRECTED_EVERY", "Corrected", "with_corrections"]

CORRECTED_EVERY: Final = 4
"""At one seed in this many there is such a partition."""
EXCHANGE: Final = "alpaca"
TRADES: Final = 40
DAY: Final = "2023-11-14"
"""In New York, of all trades and corrections."""


class Corrected(NamedTuple):
    """What a correction says."""

    what: str
    symbol: str
    trade_id: str
    new_trade_id: str | None
    old_price: str
    new_price: str | None
    new_quantity: str | None
    timestamp: int


def with_corrections(market: Market, seed: int) -> Market:
    """Return the market with a partition of stocks; the others are as before."""
    rng = Random(f"stocks {seed}")
    log = Log("alpaca")
    clock = FIRST_MILLISECOND
    sent: list[tuple[str, bytes, Any]] = []
    for number in range(TRADES):
        # Also copies of what was sent long before, which a start must know.
        again = rng.sample(sent, 1) if sent and rng.random() < 0.3 else []
        entries = [*_entries(rng, number), *again]
        sent += [entry for entry in entries if entry[0] == "correction"]
        for kind, value, said in entries:
            clock += rng.randint(0, 300)
            log.end += rng.choice([0, 0, 0, 2])
            trade = said if isinstance(said, Trade) else None
            correction = said if isinstance(said, Corrected) else None
            log.messages.append(Published(log.end, clock, b"alpaca", value, kind, trade, correction))
            log.end += 1
    market.logs["stocks", 0] = log
    return market


def _entries(rng: Random, number: int) -> list[tuple[str, bytes, Any]]:
    """Return the messages of one trade, some of them twice: it, and what corrects it."""
    symbol, venue = rng.choice(["AAPL", "MSFT", "SPY", "T"]), rng.choice(["D", "V"])
    price, new_price = (f"{rng.randint(1, 10**4)}.{rng.randint(0, 10**18 - 1):018d}" for _ in range(2))
    quantity, new_quantity = (f"{rng.randint(1, 10**4)}.5" for _ in range(2))
    time = FIRST_MILLISECOND * MICROSECONDS + number * 1_000_003
    trade = Trade(EXCHANGE, symbol, 0, None, f"{DAY}:{venue}:{number}", price, quantity, None, time)
    new_id, later = f"{DAY}:{venue}:{number + 1000}", time + 500
    common = f'"S":"{symbol}","x":"{venue}","z":"C"'
    messages: list[tuple[str, bytes, Any]] = [
        ("trade", f'[{{"T":"t",{common},"i":{number},"p":{price},"s":{quantity},"t":"{_text(time)}"}}]'.encode(), trade)
    ]
    if rng.random() < 0.4:
        said = Corrected("corrected", symbol, f"{trade.trade_id}", new_id, price, new_price, new_quantity, later)
        old, new = (
            f'"oi":{number},"op":{price},"os":{quantity}',
            f'"ci":{number + 1000},"cp":{new_price},"cs":{new_quantity}',
        )
        messages.append(("correction", f'[{{"T":"c",{common},{old},{new},"t":"{_text(later)}"}}]'.encode(), said))
    if rng.random() < 0.4:
        said = Corrected("cancelled", symbol, f"{trade.trade_id}", None, price, None, None, later + 1)
        values = f'"i":{number},"p":{price},"s":{quantity},"a":"C","t":"{_text(later + 1)}"'
        messages.append(("correction", f'[{{"T":"x",{common},{values}}}]'.encode(), said))
    if rng.random() < 0.2:
        rng.shuffle(messages)
    messages += [message for message in messages if rng.random() < 0.2]
    if rng.random() < 0.1:
        messages.insert(0, ("skipped", b'[{"T":"success","msg":"authenticated"}]', None))
    if rng.random() < 0.1:
        messages.append(("unreadable", b'[{"T":"x","S":"AAPL"}]', None))
    return messages


def _text(microseconds: int) -> str:
    """Return a time of that day in RFC 3339, as it is 22:13:20 when the market begins."""
    seconds, rest = divmod(microseconds - FIRST_MILLISECOND * MICROSECONDS, 1_000_000)
    minutes, seconds = divmod(seconds + 20, 60)
    return f"{DAY}T22:{13 + minutes:02d}:{seconds:02d}.{rest:06d}Z"
