"""Whether what the job left on disk matches what was published: laws 1 and 2, and the ledger."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from tests.simulation.disk_state import DiskState
from tests.simulation.market import Market, Trade
from tests.simulation.oracle import Coordinates, Expected
from tests.simulation.other_writer import Journal
from tests.simulation.stocks import Corrected

__all__ = ["Violation", "after_crash", "at_end"]

COUNTS = ("received", "stored", "duplicates", "dead_letters", "skipped")
"""Those that the commit log has."""
ALL_COUNTS = (*COUNTS, "corrections")
SHOWN_MAX = 5


class Violation(NamedTuple):
    """Something on disk that breaks a law."""

    kind: str
    """`lost`, `doubled` or `wrong`."""
    message: str
    """One sentence."""


def after_crash(state: DiskState, expected: Expected, market: Market, journal: Journal) -> Iterator[Violation]:
    """Check what holds at all times: no row twice, none below the progress lost, and the partitions' equation."""
    yield from _wrong_rows(state, expected)
    yield from _doubled("row", (_coordinates(row) for row in state.rows))
    yield from _excess_rows(state, expected)
    yield from _doubled("event", map(_event, state.events))
    yield from _wrong_dead_letters(state, expected)
    yield from _doubled("dead letter", (letter.coordinates for letter in state.dead_letters))
    yield from _lost(
        "dead letter", _below(state, expected.dead_letters), {letter.coordinates for letter in state.dead_letters}
    )
    yield from _corrections(state, expected)
    yield from _partition_counts(state, expected)
    yield from _commits(state)
    yield from _commit_log(state)
    yield from _foreign_rows(state, journal)
    below = _below(state, expected.messages)
    yield from _lost("trade", {expected.messages[one].trade for one in below} & expected.trades.keys(), _trades(state))
    if not market.is_multi_partition:
        yield from _lost("row", _below(state, expected.rows), {_coordinates(row) for row in state.rows})


def at_end(state: DiskState, expected: Expected, market: Market, journal: Journal) -> Iterator[Violation]:
    """Check everything that must hold once all messages are read."""
    yield from after_crash(state, expected, market, journal)
    yield from _lost("dead letter", expected.dead_letters, {letter.coordinates for letter in state.dead_letters})
    if state.pending_dead_letters:
        yield Violation("doubled", f"{state.pending_dead_letters} dead letters in the files are counted by no commit")
    yield from _lost("trade", expected.trades, _trades(state))
    if not market.is_multi_partition:
        yield from _lost("row", expected.rows, {_coordinates(row) for row in state.rows})
    yield from _lost("correction", expected.corrections, {_coordinates(row) for row in state.corrections})
    yield from _totals(state, expected, market)
    yield from _ledger(state, expected)


def _coordinates(row: dict[str, Any]) -> Coordinates:
    return Coordinates(row["topic"], row["partition"], row["offset"])


def _trade(row: dict[str, Any]) -> Trade:
    """Return a row as the market's trade, with numbers as text in the market's form."""
    return Trade(
        exchange=row["exchange"],
        symbol=row["symbol"],
        session=row["session"] or 0,
        sequence=row["sequence"],
        trade_id=row["trade_id"],
        price=f"{row['price']:.18f}",
        quantity=f"{row['quantity'].quantize(Decimal('0.1'))}",
        side=row["side"],
        timestamp=row["timestamp"],
    )


def _event(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in sorted(row))


def _wrong_rows(state: DiskState, expected: Expected) -> Iterator[Violation]:
    """Check that every row contains the trade of its message, to the digit."""
    for row in state.rows:
        message = expected.messages.get(_coordinates(row))
        if message is None or message.trade != _trade(row):
            yield Violation("wrong", f"row {row} does not match its message {message}")


def _wrong_dead_letters(state: DiskState, expected: Expected) -> Iterator[Violation]:
    for letter in state.dead_letters:
        message = expected.dead_letters.get(letter.coordinates)
        is_conflict = letter.reason == "conflict"
        if message is None or (message.key, message.value, message.kind == "conflict") != (
            letter.key,
            letter.value,
            is_conflict,
        ):
            yield Violation("wrong", f"dead letter {letter} does not match its message {message}")


def _doubled(what: str, items: Iterable[Any]) -> Iterator[Violation]:
    for item, count in Counter(items).items():
        if count > 1:
            yield Violation("doubled", f"{what} {item} occurs {count} times")


def _excess_rows(state: DiskState, expected: Expected) -> Iterator[Violation]:
    for trade, count in Counter(_trade(row) for row in state.rows).items():
        wanted = expected.trades.get(trade, 0)
        if count > wanted:
            coordinates = [tuple(_coordinates(row)) for row in state.rows if _trade(row) == trade]
            yield Violation("doubled", f"{trade} has {count} rows, expected {wanted}: {coordinates}")


def _lost(what: str, wanted: Iterable[Any], present: set[Any]) -> Iterator[Violation]:
    for item in wanted:
        if item not in present:
            yield Violation("lost", f"{what} {item} is missing")


def _below(state: DiskState, candidates: Iterable[Coordinates]) -> list[Coordinates]:
    """Return the positions that every writer has committed."""
    reached = state.reached()
    return [one for one in candidates if one.offset < reached.get((one.topic, one.partition), 0)]


def _trades(state: DiskState) -> set[Trade]:
    return {_trade(row) for row in state.rows}


def _commits(state: DiskState) -> Iterator[Violation]:
    """Check law 3: each commit moved the progress, and added the rows that its summary counts."""
    for summary in state.commit_summaries:
        (moves,) = json.loads(summary["k2.progress"])["writers"].values()
        if not moves:
            yield Violation("wrong", f"an epoch that consumed nothing was committed: {summary}")
        if int(summary.get("added-records", 0)) != int(summary["k2.stored"]):
            yield Violation("wrong", f"a commit added a different number of rows than it says: {summary}")


def _commit_log(state: DiskState) -> Iterator[Violation]:
    """Check that the table `commits` and the commit notes together record each commit, and lead to the progress.

    Each names its parent, so commits that were rolled back are not among the ancestors of the last one.
    """
    known = {commit["snapshot_id"]: commit for commit in (*state.commit_rows, *state.commit_notes)}
    totals: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    offsets: Counter[tuple[str, str]] = Counter()
    next_id = state.commit_notes[-1]["snapshot_id"] if state.commit_notes else None
    while (commit := known.pop(next_id, None)) is not None:
        next_id = commit["previous_id"]
        for move in commit["partitions"]:
            key = (commit["writer"], f"{move['topic']}:{move['partition']}")
            totals[key].update({count: move[count] for count in COUNTS})
            offsets[key] = max(offsets[key], move["offset"])
    for writer, entries in state.progress.items():
        for name, entry in entries.items():
            sums = {count: totals[writer, name][count] for count in COUNTS} | {"offset": offsets[writer, name]}
            if any(entry[count] != sums[count] for count in sums):
                found = f"the commits of writer {writer} to {name} add up to {sums}"
                yield Violation("lost", f"{found}, but its progress is {entry}")


def _foreign_rows(state: DiskState, journal: Journal) -> Iterator[Violation]:
    """Check law 5: rows that others appended are there, once."""
    yield from _lost("foreign row", journal.rows("done"), set(state.foreign))
    yield from _doubled("foreign row", state.foreign)
    for row in {*state.foreign} - journal.rows("begun"):
        yield Violation("wrong", f"nobody wrote foreign row {row}")


def _corrections(state: DiskState, expected: Expected) -> Iterator[Violation]:
    """Check that each correction is there once, as its message says, in the table or pending for it."""
    for place in state.corrections_twice:
        yield Violation("doubled", f"correction {place} is twice in its table")
    yield from _doubled("correction", (_coordinates(row) for row in state.corrections))
    for row in state.corrections:
        said = expected.corrections.get(_coordinates(row))
        if said is None or Corrected(*said) != _corrected(row):
            yield Violation("wrong", f"correction {row} does not match its message {said}")
    yield from _lost(
        "correction", _below(state, expected.corrections), {_coordinates(row) for row in state.corrections}
    )


def _corrected(row: dict[str, Any]) -> Corrected:
    """Return a row as the market's correction, with numbers as text in the market's form."""
    return Corrected(
        what=row["what"],
        symbol=row["symbol"],
        trade_id=row["trade_id"],
        new_trade_id=row["new_trade_id"],
        old_price=f"{Decimal(row['old_price']):.18f}",
        new_price=None if row["new_price"] is None else f"{Decimal(row['new_price']):.18f}",
        new_quantity=None if row["new_quantity"] is None else f"{Decimal(row['new_quantity']):.1f}",
        timestamp=row["timestamp"],
    )


def _partition_counts(state: DiskState, expected: Expected) -> Iterator[Violation]:
    """Check that each partition's counts add up, and match the rows in the table."""
    rows = Counter(f"{row['topic']}:{row['partition']}" for row in state.rows)
    dead_letters = Counter(
        f"{letter.coordinates.topic}:{letter.coordinates.partition}" for letter in state.dead_letters
    )
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    offsets: dict[str, set[int]] = defaultdict(set)
    for entries in state.progress.values():
        for name, entry in entries.items():
            totals[name].update({count: entry[count] for count in ALL_COUNTS})
            offsets[name].add(entry["offset"])
    for name, total in totals.items():
        if total["received"] != sum(total[count] for count in ALL_COUNTS[1:]):
            yield Violation("wrong", f"the partition counts of {name} do not add up: {dict(total)}")
        if len(offsets[name]) == 1:
            (offset,) = offsets[name]
            below = [one for one in expected.messages if f"{one.topic}:{one.partition}" == name and one.offset < offset]
            for count, wanted in (
                ("received", len(below)),
                ("dead_letters", sum(one in expected.dead_letters for one in below)),
                ("skipped", sum(one in expected.skipped for one in below)),
                ("corrections", sum(one in expected.corrections for one in below)),
            ):
                # While some writers have not seen a partition yet, not all of it is counted.
                if total[count] != wanted and all(name in entries for entries in state.progress.values()):
                    found = f"{name} below offset {offset} counts {total[count]} {count}"
                    yield Violation("wrong", f"{found}, expected {wanted}")
    for name in {*rows, *dead_letters, *totals}:
        present, counted = (rows[name], dead_letters[name]), (totals[name]["stored"], totals[name]["dead_letters"])
        if present != counted:
            yield Violation("wrong", f"{name} has (rows, dead letters) {present}, but its counts say {counted}")


def _totals(state: DiskState, expected: Expected, market: Market) -> Iterator[Violation]:
    """Check law 1 at the end, counted from the rows, the files and the published messages."""
    rows = Counter((row["topic"], row["partition"]) for row in state.rows)
    dead_letters = Counter((letter.coordinates.topic, letter.coordinates.partition) for letter in state.dead_letters)
    for partition, log in market.logs.items():
        name = f"{partition[0]}:{partition[1]}"
        total: Counter[str] = Counter()
        for writer, entries in state.progress.items():
            entry = entries.get(name, dict.fromkeys(COUNTS, 0) | {"offset": 0})
            total.update({count: entry[count] for count in COUNTS})
            if entry["offset"] != log.end:
                yield Violation("lost", f"writer {writer} is at {entry['offset']} of {name}, which ends at {log.end}")
        wanted = (expected.received(partition), rows[partition], dead_letters[partition])
        if (total["received"], total["stored"], total["dead_letters"]) != wanted:
            yield Violation(
                "wrong", f"{name}: the progress says {dict(total)}, expected (received, stored, dead letters) {wanted}"
            )


def _ledger(state: DiskState, expected: Expected) -> Iterator[Violation]:
    """Check that opened minus filled is what is missing, number by number."""
    missing: dict[tuple[str, str, int], Counter[int]] = defaultdict(Counter)
    started: Counter[tuple[str, str, int]] = Counter()
    for row in state.events:
        session = (row["exchange"], row["symbol"], row["session"])
        numbers = range(row["first_sequence"], row["last_sequence"] + 1)
        if row["event"] == "session_started":
            started[session] += 1
        else:
            missing[session].update(dict.fromkeys(numbers, 1 if row["event"] == "gap_opened" else -1))
    if started != Counter(expected.missing.keys()):
        found = f"the ledger starts sessions {dict(started)}"
        yield Violation("wrong", f"{found}, expected {list(expected.missing)}")
    for session in {*missing, *expected.missing}:
        counted = {number: count for number, count in missing[session].items() if count}
        wanted = dict.fromkeys(expected.missing.get(session, ()), 1)
        if counted != wanted:
            differing = sorted({*counted.items()} ^ {*wanted.items()})[:SHOWN_MAX]
            yield Violation("wrong", f"the ledger of {session} differs in the missing numbers: {differing}")
