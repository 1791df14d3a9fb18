"""Whether what the job left on disk matches what was published: laws 1 and 2, and the ledger."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from tests.simulation.foreign import Journal
from tests.simulation.found import Found
from tests.simulation.market import Market, Trade
from tests.simulation.oracle import Coordinates, Truth

__all__ = ["Fault", "after_crash", "at_end"]

Fault = tuple[str, str]
"""`lost`, `doubled` or `wrong`, and one sentence."""
COUNTS = ("received", "stored", "duplicates", "dead_letters", "skipped")
SHOWN_MAX = 5


def after_crash(found: Found, truth: Truth, market: Market, journal: Journal) -> Iterator[Fault]:
    """Check what holds at all times: no row twice, none below the progress lost, and the partitions' equation."""
    yield from _rows_are_true(found, truth)
    yield from _twice("row", (_coordinates(row) for row in found.rows))
    yield from _too_many(found, truth)
    yield from _twice("event", map(_event, found.events))
    yield from _letters_are_true(found, truth)
    yield from _twice("dead letter", (letter.coordinates for letter in found.letters))
    yield from _lost("dead letter", _below(found, truth.dead_letters), {letter.coordinates for letter in found.letters})
    yield from _partition_counts(found, truth)
    yield from _commits(found)
    yield from _commit_log(found)
    yield from _foreign_rows(found, journal)
    below = _below(found, truth.messages)
    yield from _lost("trade", {truth.messages[one].trade for one in below} & truth.trades.keys(), _trades(found))
    if not market.is_across:
        yield from _lost("row", _below(found, truth.rows), {_coordinates(row) for row in found.rows})


def at_end(found: Found, truth: Truth, market: Market, journal: Journal) -> Iterator[Fault]:
    """Check everything that must hold once all messages are read."""
    yield from after_crash(found, truth, market, journal)
    yield from _lost("dead letter", truth.dead_letters, {letter.coordinates for letter in found.letters})
    if found.pending_letters:
        yield "doubled", f"{found.pending_letters} dead letters are in the files that no commit has counted"
    yield from _lost("trade", truth.trades, _trades(found))
    if not market.is_across:
        yield from _lost("row", truth.rows, {_coordinates(row) for row in found.rows})
    yield from _totals(found, truth, market)
    yield from _ledger(found, truth)


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


def _rows_are_true(found: Found, truth: Truth) -> Iterator[Fault]:
    """Check that every row contains the trade of its message, to the digit."""
    for row in found.rows:
        message = truth.messages.get(_coordinates(row))
        if message is None or message.trade != _trade(row):
            yield "wrong", f"row {row} is not of its message {message}"


def _letters_are_true(found: Found, truth: Truth) -> Iterator[Fault]:
    for letter in found.letters:
        message = truth.dead_letters.get(letter.coordinates)
        is_conflict = letter.reason == "conflict"
        if message is None or (message.key, message.value, message.kind == "conflict") != (
            letter.key,
            letter.value,
            is_conflict,
        ):
            yield "wrong", f"dead letter {letter} is not its message {message}"


def _twice(what: str, items: Iterable[Any]) -> Iterator[Fault]:
    for item, count in Counter(items).items():
        if count > 1:
            yield "doubled", f"{what} {item} is there {count} times"


def _too_many(found: Found, truth: Truth) -> Iterator[Fault]:
    for trade, count in Counter(_trade(row) for row in found.rows).items():
        if count > truth.trades.get(trade, 0):
            coordinates = [tuple(_coordinates(row)) for row in found.rows if _trade(row) == trade]
            yield "doubled", f"{trade} has {count} rows, {truth.trades.get(trade, 0)} are right: {coordinates}"


def _lost(what: str, wanted: Iterable[Any], there: set[Any]) -> Iterator[Fault]:
    for item in wanted:
        if item not in there:
            yield "lost", f"{what} {item} is not there"


def _below(found: Found, candidates: Iterable[Coordinates]) -> list[Coordinates]:
    """Return the positions that every writer has committed."""
    reached = found.reached()
    return [one for one in candidates if one.offset < reached.get((one.topic, one.partition), 0)]


def _trades(found: Found) -> set[Trade]:
    return {_trade(row) for row in found.rows}


def _commits(found: Found) -> Iterator[Fault]:
    """Check law 3: each commit moved the progress, and added the rows that its summary counts."""
    for summary in found.commits:
        (moves,) = json.loads(summary["k2.progress"])["writers"].values()
        if not moves:
            yield "wrong", f"an epoch that consumed nothing was committed: {summary}"
        if int(summary.get("added-records", 0)) != int(summary["k2.stored"]):
            yield "wrong", f"a commit holds other rows than it tells of: {summary}"


def _commit_log(found: Found) -> Iterator[Fault]:
    """Check that the table `commits` and the commit notes together record each commit, and lead to the progress.

    Each names its parent, so commits that were rolled back are on no line to the last one.
    """
    known = {commit["snapshot_id"]: commit for commit in (*found.kept, *found.noted)}
    totals: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    offsets: Counter[tuple[str, str]] = Counter()
    next_id = found.noted[-1]["snapshot_id"] if found.noted else None
    while (commit := known.pop(next_id, None)) is not None:
        next_id = commit["previous_id"]
        for move in commit["partitions"]:
            where = (commit["writer"], f"{move['topic']}:{move['partition']}")
            totals[where].update({count: move[count] for count in COUNTS})
            offsets[where] = max(offsets[where], move["offset"])
    for writer, entries in found.progress.items():
        for name, entry in entries.items():
            sums = {count: totals[writer, name][count] for count in COUNTS} | {"offset": offsets[writer, name]}
            if any(entry[count] != sums[count] for count in sums):
                yield "lost", f"commits of writer {writer} to {name} tell of {sums}, its progress is {entry}"


def _foreign_rows(found: Found, journal: Journal) -> Iterator[Fault]:
    """Check law 5: rows that others appended are there, once."""
    yield from _lost("foreign row", journal.rows("done"), set(found.foreign))
    yield from _twice("foreign row", found.foreign)
    for row in {*found.foreign} - journal.rows("begun"):
        yield "wrong", f"foreign row {row} is there, and nobody wrote it"


def _partition_counts(found: Found, truth: Truth) -> Iterator[Fault]:
    """Check that each partition's counts add up, and match the rows in the table."""
    rows = Counter(f"{row['topic']}:{row['partition']}" for row in found.rows)
    letters = Counter(f"{letter.coordinates.topic}:{letter.coordinates.partition}" for letter in found.letters)
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    offsets: dict[str, set[int]] = defaultdict(set)
    for entries in found.progress.values():
        for name, entry in entries.items():
            totals[name].update({count: entry[count] for count in COUNTS})
            offsets[name].add(entry["offset"])
    for name, total in totals.items():
        if total["received"] != sum(total[count] for count in COUNTS[1:]):
            yield "wrong", f"the partition counts of {name} do not add up: {dict(total)}"
        if len(offsets[name]) == 1:
            (offset,) = offsets[name]
            behind = [one for one in truth.messages if f"{one.topic}:{one.partition}" == name and one.offset < offset]
            for count, right in (
                ("received", len(behind)),
                ("dead_letters", sum(one in truth.dead_letters for one in behind)),
                ("skipped", sum(one in truth.skipped for one in behind)),
            ):
                # While some writers have not seen a partition yet, not all of it is counted.
                if total[count] != right and all(name in entries for entries in found.progress.values()):
                    yield "wrong", f"{name} to offset {offset} counts {total[count]} {count}, {right} were"
    for name in {*rows, *letters, *totals}:
        there, counted = (rows[name], letters[name]), (totals[name]["stored"], totals[name]["dead_letters"])
        if there != counted:
            yield "wrong", f"{name} has (rows, dead letters) {there}, its partition counts say {counted}"


def _totals(found: Found, truth: Truth, market: Market) -> Iterator[Fault]:
    """Check law 1 at the end, counted from the rows, the files and the published messages."""
    rows = Counter((row["topic"], row["partition"]) for row in found.rows)
    letters = Counter((letter.coordinates.topic, letter.coordinates.partition) for letter in found.letters)
    for where, log in market.logs.items():
        name = f"{where[0]}:{where[1]}"
        total: Counter[str] = Counter()
        for writer, entries in found.progress.items():
            entry = entries.get(name, dict.fromkeys(COUNTS, 0) | {"offset": 0})
            total.update({count: entry[count] for count in COUNTS})
            if entry["offset"] != log.end:
                yield "lost", f"writer {writer} is at {entry['offset']} of {name}, which ends at {log.end}"
        wanted = (truth.received(where), rows[where], letters[where])
        if (total["received"], total["stored"], total["dead_letters"]) != wanted:
            yield (
                "wrong",
                f"{name}: received, stored, dead letters are {wanted}, the progress says {dict(total)}",
            )


def _ledger(found: Found, truth: Truth) -> Iterator[Fault]:
    """Check that opened minus filled is what is missing, number by number."""
    missing: dict[tuple[str, str, int], Counter[int]] = defaultdict(Counter)
    started: Counter[tuple[str, str, int]] = Counter()
    for row in found.events:
        session = (row["exchange"], row["symbol"], row["session"])
        numbers = range(row["first_sequence"], row["last_sequence"] + 1)
        if row["event"] == "session_started":
            started[session] += 1
        else:
            missing[session].update(dict.fromkeys(numbers, 1 if row["event"] == "gap_opened" else -1))
    if started != Counter(truth.missing.keys()):
        yield "wrong", f"the ledger starts sessions {dict(started)}, right are {list(truth.missing)}"
    for session in {*missing, *truth.missing}:
        counted = {number: count for number, count in missing[session].items() if count}
        right = dict.fromkeys(truth.missing.get(session, ()), 1)
        if counted != right:
            differing = sorted({*counted.items()} ^ {*right.items()})[:SHOWN_MAX]
            yield "wrong", f"the ledger of {session} differs in what is missing: {differing}"
