"""The verdicts of the rules on a numbering, compared with the truth that its script knows."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from k2.model.verdicts import CONFLICT, DUPLICATE, STORED
from tests.sequencing.numberings_feed import Script, Sent

__all__ = ["Assessment", "assess"]


@dataclass
class Assessment:
    """The verdicts of the rules on a script, compared with the truth."""

    lost: int = 0
    """Trades of which no copy is stored or set aside."""
    doubled: int = 0
    """Rows in excess of one for each trade, and corrections that are stored."""
    dropped_silently: int = 0
    """Messages judged duplicates although nothing with their content was stored."""
    falsely_missing: int = 0
    """Numbers that the ledger reports missing although their trade is stored, or that no numbering ever had."""
    gaps_unseen: int = 0
    """Numbers between stored ones of a numbering that were not stored and that the ledger does not report."""
    set_aside: int = 0
    """Conflicts that are not corrections."""

    @property
    def is_right(self) -> bool:
        """Whether no message was misjudged, except for being set aside."""
        wrong = self.lost, self.doubled, self.dropped_silently, self.falsely_missing, self.gaps_unseen
        return not any(wrong)


def assess(
    made: Script, verdicts: Sequence[int], sessions: Sequence[int], missing: Iterable[tuple[int, int, int]]
) -> Assessment:
    """Compare verdicts and sessions by message, and the ledger's missing (session, first, last), with the truth."""
    found = Assessment()
    stored, aside, rows = Counter[object](), set[object](), list[tuple[int, Sent]]()
    contents = set[object]()
    for one, verdict, session in zip(made.sent, verdicts, sessions, strict=True):
        content = *one.trade, one.price, one.quantity, one.side
        if verdict == STORED:
            found.doubled += one.is_correction
            stored[one.trade] += 1
            rows.append((session, one))
            contents.add(content)
        elif verdict == CONFLICT:
            aside.add(one.trade)
            found.set_aside += not one.is_correction
        elif verdict == DUPLICATE:
            found.dropped_silently += content not in contents and one.trade not in aside
    true = {one.trade for one in made.sent if not one.is_correction}
    found.lost = len(true - stored.keys() - aside)
    found.doubled += sum(count - 1 for count in stored.values())
    _assess_ledger(found, rows, missing)
    return found


def _assess_ledger(found: Assessment, rows: list[tuple[int, Sent]], missing: Iterable[tuple[int, int, int]]) -> None:
    """Compare the ledger with what is stored; a session stands for the numbering of most of its rows."""
    votes, numbers = defaultdict[int, Counter[int]](Counter), defaultdict[int, set[int]](set)
    for session, one in rows:
        votes[session][one.numbering] += 1
        numbers[one.numbering].add(one.sequence)
    numbering_of = {session: count.most_common(1)[0][0] for session, count in votes.items()}
    missed = defaultdict[int, list[tuple[int, int]]](list)
    for session, first, last in missing:
        missed[numbering_of[session]].append((first, last))
    for numbering, stored in numbers.items():
        ranges = sorted(missed[numbering])
        gaps = [(low + 1, high - 1) for low, high in pairwise(sorted(stored)) if high - low > 1]
        found.falsely_missing += _beyond(ranges, gaps)
        found.gaps_unseen += _beyond(gaps, ranges)


def _beyond(ranges: list[tuple[int, int]], covering: list[tuple[int, int]]) -> int:
    """Count the numbers of some ranges that others do not cover."""
    total = 0
    for first, last in ranges:
        inside = (min(last, high) - max(first, low) + 1 for low, high in covering)
        total += last - first + 1 - sum(count for count in inside if count > 0)
    return total
