"""A day of 10,000 symbols on three exchanges, through the real flow: reports match the generated market."""

from pathlib import Path

from benchmarks.day import market_of_a_day, run_day

SYMBOLS = 10_000
SYMBOL_BYTES_MAX = 700
"""Bytes of state: a name, the slot, some twenty recent trades, and the numbers if any is missing."""


def test_a_day_of_10_000_symbols(tmp_path: Path) -> None:
    """Completeness and the ledger match the truth exactly, and state grows with symbols and gaps, not with trades."""
    market = market_of_a_day(SYMBOLS, trades=24)
    outcome = run_day(market, tmp_path)
    assert outcome.days == market.truth.days()
    assert outcome.missing == market.truth.missing()
    assert outcome.duplicates == market.truth.twice
    assert {exchange for exchange, _ in outcome.days} == {"binance", "coinbase", "kraken"}
    assert {session for _, _, session in market.truth.numbers} == {1, 2}
    assert outcome.state_bytes["trades.sequence"] < SYMBOLS * SYMBOL_BYTES_MAX
    assert outcome.state_bytes["trades.deduplicate"] < SYMBOLS
