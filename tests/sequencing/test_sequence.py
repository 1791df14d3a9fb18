"""The hard cases of numbering, one line for each trade, against the specification."""

from typing import Final

import pytest

from k2.model.verdicts import STORED
from k2.sequencing.intervals import IntervalSet
from k2.sequencing.sequence import SymbolSequence
from k2.sequencing.session import Session
from tests.sequencing.sequence_case import (
    BEGUN_LATE,
    COPIES,
    COPY,
    DAY,
    EARLIER,
    FILLED,
    FIRST,
    GAP,
    LATE,
    MAX,
    MILLION,
    MILLISECOND,
    MIN,
    NEXT,
    OPENED,
    RESTARTED,
    SECOND,
    SET_ASIDE,
    STARTED,
    THOUSAND,
    VERDICTS,
    WITH_HOLE,
    YOUNG,
    Case,
    Span,
    SpanContents,
    Trade,
    content,
    copies,
    filled,
    live,
    opened,
    restart,
    six_sessions,
)

CONFLICTS: Final = {
    "a correction": Case([THOUSAND], [Trade(500, 5_000, SET_ASIDE, 1, (), 2), *live(1_001, 1_003, 1_001)]),
    "a correction with the trade's own time": Case(
        [THOUSAND], [Trade(500, 500, SET_ASIDE, 1, (), 2), Trade(500, 500, COPY, 1), *live(1_001, 1_002, 1_001)]
    ),
    "the newest again with a corrected price and a later time": Case(
        [THOUSAND], [Trade(1_000, 1_001, SET_ASIDE, 1, (), 2), *live(1_001, 1_003, 1_002)]
    ),
    "the newest of a young session again with a corrected price": Case(
        [YOUNG], [Trade(20, 101, SET_ASIDE, 1, (), 2), *live(21, 23, 102)]
    ),
    "a correction each time that a live trade came between": Case(
        [THOUSAND],
        [
            trade
            for place in range(5)
            for trade in (
                Trade(500 + place, 2_000 + 2 * place, SET_ASIDE, 1, (), 2),
                Trade(1_001 + place, 2_001 + 2 * place, NEXT, 1),
            )
        ],
    ),
    "one number under ever new prices, whatever the times": Case(
        [THOUSAND],
        [*(Trade(500, at, SET_ASIDE, 1, (), at) for at in (5_000, 4_999, 5_001)), *live(1_001, 1_002, 1_001)],
    ),
    "two explicit ids under one number": Case(
        [],
        [
            Trade(5, 5, FIRST, 1, [(STARTED, 1, 5, 5)], 1, is_named=True),
            Trade(6, 6, NEXT, 1, (), 1, is_named=True),
            Trade(6, 6, SET_ASIDE, 1, (), 2, is_named=True),
            Trade(7, 7, NEXT, 1, (), 1, is_named=True),
        ],
    ),
    "a number whose content nobody knows, later than the session": Case(
        [YOUNG], [Trade(10, 100, COPY, 1), Trade(10, 101, SET_ASIDE, 1)], is_known=False
    ),
    "a lone correction of the session's first number": Case(
        [MILLION],
        [
            restart(1, 101, price=2),
            *(trade._replace(kind=LATE) for trade in live(1_000_001, 1_000_050, 102)),
            Trade(1, 1, COPY, 1),
            Trade(1, 200, COPY, 2),
        ],
    ),
    "a lone correction of the first number of 17": Case(
        [Span([(1, 17)], 1, 17)], [restart(1, 101), *(trade._replace(kind=LATE) for trade in live(18, 40, 102))]
    ),
}

RESTARTS: Final = {
    "a restart straight after 1,000,000": Case([MILLION], [restart(1, 101), *live(2, 5, 101, 2)]),
    **{
        f"a restart whose first {lost} numbers were lost": Case(
            [MILLION],
            [
                Trade(lost + 1, 101, SET_ASIDE, 1, (), 2),
                restart(lost + 2, 102),
                *live(lost + 3, lost + 9, 103, 2),
                Trade(lost + 1, 101, EARLIER, 2),
                Trade(lost + 1, 101, COPY, 2),
                Trade(lost + 10, 110, NEXT, 2),
            ],
        )
        for lost in (1, 5, 40, 60)
    },
    **{
        f"a restart whose clock is {behind} us behind": Case(
            [MILLION._replace(latest=DAY)], [restart(1, DAY - behind), *live(2, 9, DAY - behind, 2)]
        )
        for behind in (0, 50 * MILLISECOND, 5 * SECOND)
    },
    **{
        f"a restart of a young session whose clock is {behind} us behind": Case(
            [YOUNG._replace(latest=DAY)],
            [
                Trade(1, DAY - behind, SET_ASIDE, 1, (), 2),
                restart(2, DAY - behind + 1),
                Trade(1, DAY - behind, EARLIER, 2),
                *live(3, 9, DAY - behind + 2, 2),
            ],
        )
        for behind in (0, 50 * MILLISECOND, 5 * SECOND)
    },
    "a restart of a young session whose clock is behind and catches up": Case(
        [YOUNG._replace(latest=DAY)],
        [
            Trade(1, DAY - 50 * MILLISECOND, SET_ASIDE, 1, (), 2),
            restart(2, DAY + 10 * MILLISECOND),
            Trade(1, DAY - 50 * MILLISECOND, EARLIER, 2),
            *live(3, 9, DAY + 20 * MILLISECOND, 2),
        ],
    ),
    "a restart whose clock is more than 5 s behind": Case(
        [MILLION._replace(latest=DAY)],
        [Trade(1, DAY - 5 * SECOND - 1, SET_ASIDE, 1, (), 2), restart(2, DAY - 5 * SECOND), *live(3, 9, DAY, 2)],
    ),
    **{
        f"a restart after {count} trades": Case(
            [MILLION, Span([(1, count)], 101, 200)], [restart(1, 201, 3), *live(2, 9, 202, 3)]
        )
        for count in (1, 15, 20, 60)
    },
    "a restart far below the first number seen": Case(
        [Span([(500, 600)], 1, 100)], [restart(3, 101), *live(4, 9, 102, 2)]
    ),
    "a restart far below the first number of a young session, its clock behind": Case(
        [Span([(500, 600)], 1, DAY)],
        [
            Trade(3, DAY - 9, SET_ASIDE, 1, (), 2),
            restart(5, DAY - 8),
            *live(6, 9, DAY - 7, 2),
            Trade(3, DAY - 9, EARLIER, 2, [(OPENED, 2, 4, 4)]),
        ],
    ),
    "a restart of an old session just below its first number": Case(
        [Span([(500, 1_000)], 1, 100)], [restart(499, 101), *live(500, 509, 102, 2)]
    ),
    "a restart into an open gap": Case(
        [Span([(1, 9), (50, 900)], 1, 100)],
        [Trade(9, 101, SET_ASIDE, 1, (), 2), restart(10, 102), *live(11, 19, 103, 2)],
    ),
    "one number in an open gap looks like a late fill": Case(
        [Span([(1, 9), (50, 900)], 1, 100)],
        [Trade(20, 101, LATE, 1, [(FILLED, 1, 20, 20)])],
    ),
    "a restart whose content nobody knows": Case([MILLION], [restart(1, 101), *live(2, 9, 102, 2)], is_known=False),
    "the first two trades swapped, times rising": Case(
        [], [Trade(2, 10, FIRST, 1, [(STARTED, 1, 2, 2)]), Trade(1, 11, EARLIER, 1), *live(3, 9, 12)]
    ),
    "the first 256 numbers after the 257th": Case(
        [],
        [
            Trade(257, 10, FIRST, 1, [(STARTED, 1, 257, 257)]),
            Trade(1, 11, EARLIER, 1, [(OPENED, 1, 2, 256)]),
            *(filled(number, 10 + number) for number in range(2, 257)),
        ],
    ),
    "a number more than 256 below the first": Case(
        [], [Trade(258, 10, FIRST, 1, [(STARTED, 1, 258, 258)]), restart(1, 11), *live(2, 9, 12, 2)]
    ),
    "the first two trades of a restart swapped, times rising": Case(
        [MILLION],
        [
            Trade(2, 101, SET_ASIDE, 1, (), 2),
            restart(1, 102),
            opened(3, 103, 2, 2, 2),
            filled(2, 101, 2),
            *live(4, 9, 104, 2),
        ],
    ),
    "the first two trades of a restart below the first number swapped": Case(
        [Span([(500, 600)], 1, 100)], [restart(2, 101), Trade(1, 102, EARLIER, 2), *live(3, 9, 103, 2)]
    ),
    "a clock jump alone": Case([YOUNG], [Trade(21, 3 * DAY, NEXT, 1), *live(22, 29, 3 * DAY)]),
}

STRAGGLERS: Final = {
    "a number of the old session with other content confirms no doubt about the new one": Case(
        [Span([(1, 10)], 1, 10), Span([(1, 4)], 20, 23)],
        [Trade(4, 30, SET_ASIDE, 2, (), 9), Trade(5, 5, SET_ASIDE, 1, (), 9), Trade(5, 24, NEXT, 2)],
    ),
    "hundreds lost behind 64 of the new session, up to just above the old one's highest": Case(
        [Span([(1, 1_000)], 1, 1_000), Span([(1, 64)], 2_000, 2_063)], [opened(1_004, 3_000, 2, 65, 1_003)]
    ),
    "a trade just above the old session's highest, behind fewer than 64 of the new one": Case(
        [Span([(1, 1_000)], 1, 1_000), Span([(1, 63)], 2_000, 2_063)],
        [Trade(1_003, 3_000, LATE, 1, [(OPENED, 1, 1_001, 1_002)])],
    ),
    "numbers missing in the old session": Case(
        [Span([(1, 10), (12, 1_000)], 1, 100)],
        [restart(1, 101), *live(2, 3, 102, 2), filled(11, 50), Trade(11, 50, COPY, 1), *live(4, 9, 104, 2)],
    ),
    "a straggler continues the old session": Case(
        RESTARTED, [Trade(1_000_001, 100, LATE, 1), Trade(1_000_001, 100, COPY, 1), *live(21, 22, 121, 2)]
    ),
    "a straggler later than all of the old session": Case(
        [MILLION, Span([(1, 20)], 201, 220)],
        [
            Trade(1_000_002, 150, LATE, 1, [(OPENED, 1, 1_000_001, 1_000_001)]),
            *live(21, 22, 221, 2),
            filled(1_000_001, 149),
        ],
    ),
    "a straggler with the time of sending": Case(RESTARTED, [Trade(1_000_001, 500, LATE, 1), *live(21, 22, 501, 2)]),
    "a straggler that leaves a hole": Case(
        RESTARTED, [Trade(1_000_003, 100, LATE, 1, [(OPENED, 1, 1_000_001, 1_000_002)]), filled(1_000_001, 99)]
    ),
    "copies of the old session with their own times": Case(
        RESTARTED, [Trade(1_000_000, 100, COPY, 1), *copies(1, 20, 1), *live(21, 22, 121, 2)]
    ),
    "copies of the old session with the times of sending": Case(
        RESTARTED, [Trade(1_000_000, 500, COPY, 1), *copies(1, 20, 500), *live(21, 22, 521, 2)]
    ),
    "one trade of the old session sent again behind the new one's newest": Case(
        RESTARTED, [Trade(15, 500, COPY, 1), Trade(22, 500, COPY, 1), *live(21, 24, 121, 2)]
    ),
    "one trade of the old session sent again under the next number": Case(
        RESTARTED, [Trade(21, 500, SET_ASIDE, 1), *live(21, 24, 121, 2)]
    ),
    "one trade of the old session sent again under the next number, at the new one's first time": Case(
        RESTARTED, [Trade(21, 100, COPY, 1), Trade(21, 101, SET_ASIDE, 1)]
    ),
    "a trade like one of the old session fills a gap of the new one": Case(
        WITH_HOLE, [Trade(10, 100, COPY, 1), Trade(10, 120, COPY, 1), filled(10, 101, 2)._replace(price=1)]
    ),
    "a named trade of the old session fills no gap of the new one": Case(
        WITH_HOLE, [Trade(10, 110, COPY, 1, (), None, is_named=True)]
    ),
    "a block of the old session sent again across the next number": Case(
        RESTARTED,
        [*copies(5, 20, 500), Trade(21, 516, SET_ASIDE, 1), *copies(22, 90, 517), *live(21, 95, 600, 2)],
    ),
    "trades of the old session under their own times across the next number": Case(
        RESTARTED, [*copies(5, 90, 5), *live(21, 24, 121, 2)]
    ),
    "a named trade of the old session sent again under the next number": Case(
        RESTARTED, [Trade(21, 500, COPY, 1, (), None, is_named=True), *live(21, 24, 501, 2)]
    ),
    "a number of both sessions, between their times": Case(
        [MILLION, Span([(1, 20)], 201, 220)], [Trade(5, 150, SET_ASIDE, 1, (), 3)]
    ),
    "a number that the old session has, at its latest time": Case(
        [MILLION, Span([(1, 20)], 201, 220)], [Trade(25, 100, SET_ASIDE, 1, (), 2)]
    ),
    "a number that the old session has, 5 s before a new one that overlaps it": Case(
        [MILLION._replace(latest=DAY), Span([(1, 20)], DAY, DAY + 20)],
        [Trade(25, DAY - 5 * SECOND - 1, SET_ASIDE, 1, (), 2), opened(25, DAY - 5 * SECOND, 2, 21, 24)],
    ),
    "numbers around a new session that begins long after the old one": Case(
        BEGUN_LATE, [Trade(521, 100, SET_ASIDE, 1, (), 2), Trade(499, 100, EARLIER, 2)]
    ),
    "numbers far above a new session that begins long after the old one": Case(
        BEGUN_LATE, [Trade(777, 150, SET_ASIDE, 1, (), 2), opened(776, 150, 2, 521, 775)]
    ),
    "numbers far below a new session that begins long after the old one": Case(
        BEGUN_LATE,
        [Trade(243, 150, SET_ASIDE, 1, (), 2), Trade(244, 150, EARLIER, 2, [(OPENED, 2, 245, 499)])],
    ),
    "a number below the first of two sessions, between their times": Case(
        [Span([(500, 520)], 1, 100), Span([(500, 520)], 201, 220)], [Trade(499, 150, EARLIER, 2)]
    ),
    "a number whose content nobody knows, at the old session's latest time": Case(
        [YOUNG, Span([(10, 20)], 201, 220)], [Trade(9, 100, COPY, 1)], is_known=False
    ),
    "a number missing in the old session, at its latest time": Case(
        [Span([(1, 9), (11, 1_000)], 1, 100), Span([(1, 3)], 100, 102)], [opened(10, 100, 2, 4, 9)]
    ),
    "a number missing in the old session, before its latest time": Case(
        [Span([(1, 9), (11, 1_000)], 1, 101), Span([(1, 3)], 100, 102)], [filled(10, 100)]
    ),
    "a new session that goes on at the old one's newest number": Case(
        [THOUSAND, Span([(1, 900)], 2_001, 2_900)], [opened(1_000, 3_000, 2, 901, 999)]
    ),
    "the old session's next number, 256 above the new one's newest": Case(
        [Span([(1, 299)], 1, 299), Span([(1, 44)], 301, 400)], [Trade(300, 500, LATE, 1)]
    ),
    "the old session's next number, 255 above the new one's newest": Case(
        [Span([(1, 299)], 1, 299), Span([(1, 45)], 301, 400)], [opened(300, 500, 2, 46, 299)]
    ),
    "the old session's next number after one trade of a third": Case(
        [*RESTARTED, Span([(1, 1)], 201, 201)], [Trade(21, 300, LATE, 2)]
    ),
    "the old session's next number after two trades of a third": Case(
        [*RESTARTED, Span([(1, 2)], 201, 202)], [opened(21, 300, 3, 3, 20)]
    ),
    "an old session of which nothing is left": Case(
        [Span([], MAX, MIN), Span([(1, 20)], 100, 200)],
        [opened(1_000, 50, 2, 21, 999), opened(9_000, 300, 2, 1_001, 8_999)],
    ),
    "six sessions with a hole each, filled late": Case([], six_sessions()),
    "a straggler two sessions back": Case(
        [*RESTARTED, Span([(1, 5)], 201, 205)],
        [Trade(1_000_001, 100, LATE, 1), Trade(21, 150, LATE, 2), *copies(1, 20, 101, 2), *live(6, 9, 206, 3)],
    ),
}

PLACES: Final = {
    "a gap": Case([YOUNG], [opened(22, 101, 1, 21, 21), opened(33, 102, 1, 23, 32)]),
    "late fills split and close a gap": Case(
        [YOUNG], [opened(24, 101, 1, 21, 23), filled(22, 50), filled(21, 900), filled(23, 1)]
    ),
    "a descending batch leaves no gap open": Case(
        [YOUNG], [opened(24, 109, 1, 21, 23), filled(23, 108), filled(22, 107), filled(21, 106)]
    ),
    "negative numbers": Case(
        [Span([(-9, -3)], 1, 5)], [Trade(-2, 6, NEXT, 1), opened(1, 6, 1, -1, 0), Trade(-9, 6, COPY, 1)]
    ),
    "the last number of 64 bits": Case(
        [Span([(1, MAX - 1)], 1, 5)],
        [Trade(MAX, 6, NEXT, 1), Trade(MAX, 6, COPY, 1), restart(MIN, 7), restart(MIN, 8, 3)],
    ),
    "the least and the last number": Case(
        [Span([(MIN, MIN)], MIN, MIN)],
        [
            Trade(MAX, MAX, GAP, 1, [(OPENED, 1, MIN + 1, -1), (OPENED, 1, 0, MAX - 1)]),
            filled(0, MIN),
            filled(MIN + 1, 0),
        ],
    ),
    "the largest gap of one event": Case([Span([(-1, -1)], 5, 5)], [opened(MAX, 6, 1, 0, MAX - 1)]),
    "the smallest gap of two events": Case(
        [Span([(-2, -2)], 5, 5)], [Trade(MAX, 6, GAP, 1, [(OPENED, 1, -1, -1), (OPENED, 1, 0, MAX - 1)])]
    ),
}
CASES: Final = {**COPIES, **CONFLICTS, **RESTARTS, **STRAGGLERS, **PLACES}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_hard_cases(case: Case) -> None:
    """Each trade gets the verdict, session, kind and events of its line."""
    sessions = [Session(IntervalSet(*zip(*one.ranges, strict=True)), one.earliest, one.latest) for one in case.before]
    sequence = SymbolSequence(SpanContents(sessions if case.is_known else ()), sessions)
    for line, trade in enumerate(case.trades):
        of = content(trade.number, trade.session if trade.price is None else trade.price)
        placement = sequence.place(trade.number, trade.at, of, is_named=trade.is_named)
        found = placement.kind, placement.session, [*placement.events]
        assert found == (trade.kind, trade.session, [*trade.events]), f"line {line}: {trade}"
        assert placement.verdict == VERDICTS.get(trade.kind, STORED)
        assert placement.out_of_order == (trade.kind in {LATE, EARLIER})
