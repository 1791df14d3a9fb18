"""Pieces of gaps: each number counts as opened when it was first reported missing, and filled likewise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.sequencing.gap_pieces import LedgerRange, Piece, pieces, still_open

TOLD = st.lists(
    st.builds(
        lambda low, size, at: LedgerRange(low, low + size, at),
        st.integers(-9, 30),
        st.integers(0, 8),
        st.integers(0, 3),
    ),
    max_size=6,
)


def first_recorded(recorded: list[LedgerRange]) -> dict[int, int]:
    """Return when each number was first reported, number by number."""
    times: dict[int, int] = {}
    for one in recorded:
        for number in range(one.first, one.last + 1):
            times[number] = min(one.at, times.get(number, one.at))
    return times


@pytest.mark.parametrize(
    ("opened", "filled", "cut"),
    [
        ([], [(1, 2, 3)], []),
        ([(5, 9, 1)], [], [(5, 9, 1, None)]),
        ([(5, 9, 1)], [(5, 9, 2)], [(5, 9, 1, 2)]),
        ([(5, 9, 1)], [(7, 7, 2)], [(5, 6, 1, None), (7, 7, 1, 2), (8, 9, 1, None)]),
        ([(5, 9, 1)], [(5, 5, 2), (6, 6, 2), (7, 7, 3)], [(5, 6, 1, 2), (7, 7, 1, 3), (8, 9, 1, None)]),
        ([(5, 9, 4), (8, 12, 1)], [], [(5, 7, 4, None), (8, 12, 1, None)]),
        ([(5, 9, 4)], [(6, 6, 1)], [(5, 5, 4, None), (6, 6, 4, 1), (7, 9, 4, None)]),
        ([(-(2**63), -1, 1), (0, 2**63 - 1, 1)], [], [(-(2**63), 2**63 - 1, 1, None)]),
    ],
)
def test_what_was_opened_is_cut_by_its_times(
    opened: list[tuple[int, int, int]], filled: list[tuple[int, int, int]], cut: list[tuple[int, ...]]
) -> None:
    """Shrunk, split, closed, reported twice, reported late, and wider than 64 bits."""
    assert [
        tuple(one) for one in pieces((LedgerRange(*one) for one in opened), (LedgerRange(*one) for one in filled))
    ] == cut


@given(opened=TOLD, filled=TOLD)
def test_pieces_are_the_numbers_opened(opened: list[LedgerRange], filled: list[LedgerRange]) -> None:
    """Open and filled pieces together are the numbers opened, each with its own times, in as few pieces as possible."""
    cut = [*pieces(opened, filled)]
    opened_at, filled_at = first_recorded(opened), first_recorded(filled)
    recorded = {
        number: (piece.opened_at, piece.filled_at) for piece in cut for number in range(piece.first, piece.last + 1)
    }
    assert recorded == {number: (at, filled_at.get(number)) for number, at in opened_at.items()}
    assert sum(piece.last - piece.first + 1 for piece in cut) == len(recorded)
    assert len(cut) == sum(recorded.get(number - 1) != times for number, times in recorded.items())
    assert cut == sorted(cut, key=lambda piece: piece.first)


@given(opened=TOLD, filled=TOLD)
def test_what_is_open_is_a_row_a_range(opened: list[LedgerRange], filled: list[LedgerRange]) -> None:
    """A missing range is one row, whenever its parts were opened, and as old as its oldest part."""
    opened_at = first_recorded(opened)
    missing = opened_at.keys() - first_recorded(filled).keys()
    ranges = [*still_open(pieces(opened, filled))]
    assert [n for one in ranges for n in range(one.first, one.last + 1)] == sorted(missing)
    assert len(ranges) == sum(number - 1 not in missing for number in missing)
    assert all(one.opened_at == min(opened_at[n] for n in range(one.first, one.last + 1)) for one in ranges)


def test_a_gap_of_millions_is_one_piece() -> None:
    """Ranges are cut, whatever the count of their numbers."""
    assert [*pieces([LedgerRange(1, 5_000_000, 1)], [LedgerRange(1, 2, 2), LedgerRange(4_999_999, 5_000_000, 2)])] == [
        Piece(1, 2, 1, 2),
        Piece(3, 4_999_998, 1, None),
        Piece(4_999_999, 5_000_000, 1, 2),
    ]
