"""The comparison of instructions per message with those on record."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.instruction_counts import (
    FILE,
    PAGE,
    RATIO_MAX,
    RATIO_MIN,
    Counts,
    failures,
    other_versions,
    read,
    table,
    with_counts,
    write,
)

ORIGIN = "FILE"
COUNTS = st.dictionaries(st.sampled_from(["poll", "decode", "track", "sort"]), st.floats(1, 1e6))


def complain(base: float, count: float) -> list[str]:
    """Return the failures of one stage."""
    return list(failures({"mixed: decode": base}, {"mixed: decode": count}, ORIGIN))


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (
            1_121,
            (
                "mixed: decode takes 1,121 instructions a message, 12% more than the 1,000 of FILE; make it cheaper, "
                "or accept it with `make instructions ARGS=--update` and say why in the commit"
            ),
        ),
        (1_099, None),
        (1_000, None),
        (901, None),
        (
            700,
            (
                "mixed: decode takes 700 instructions a message, 30% fewer than the 1,000 of FILE; keep the gain with "
                "`make instructions ARGS=--update`, or the stage may become as expensive again unnoticed"
            ),
        ),
    ],
)
def test_a_stage_that_moved_is_named_in_one_sentence(count: float, sentence: str | None) -> None:
    """It has both counts, the difference and what to do; a tenth in either direction is no difference."""
    assert complain(1_000, count) == ([] if sentence is None else [sentence])


@given(COUNTS, COUNTS)
def test_each_stage_has_a_complaint_exactly_if_it_moved(reference: dict[str, float], counted: dict[str, float]) -> None:
    """A stage that only one of the two has counts as moved; the others do not hide it."""
    moved = {
        stage
        for stage in reference.keys() | counted.keys()
        if stage not in reference
        or stage not in counted
        or not reference[stage] * RATIO_MIN <= counted[stage] <= reference[stage] * RATIO_MAX
    }
    found = list(failures(reference, counted, ORIGIN))
    assert {one.split(" ")[0] for one in found} == moved
    assert len(found) == len(moved)


@given(COUNTS)
def test_counts_that_were_just_stored_are_in_order(counted: dict[str, float]) -> None:
    """So `--update` always ends the failures."""
    assert not list(failures(counted, counted, ORIGIN))


def test_other_versions_are_named() -> None:
    """With them the counts of the same code differ; one that only one of the two has differs as well."""
    reference = Counts({"numba": "0.68.0", "numpy": "2.4.6", "gone": "1"}, {})
    differences = other_versions(reference, {"numba": "0.68.1", "numpy": "2.4.6", "new": "2"})
    assert differences == ["gone none instead of 1", "new 2 instead of none", "numba 0.68.1 instead of 0.68.0"]


def test_counts_are_read_as_they_were_written(tmp_path: Path) -> None:
    """In their order, a line for each stage."""
    counts = Counts({"numba": "0.68.1"}, {"mixed: poll": 860.7, "faults: decode": 8059.4})
    path = tmp_path / "counts.json"
    write(counts, path)
    assert read(path) == counts
    assert list(read(path).per_message) == ["mixed: poll", "faults: decode"]
    assert '    "mixed: poll": 860.7,\n' in path.read_text(encoding="utf-8")


def test_the_table_says_by_how_much_each_stage_moved() -> None:
    """A stage without a reference is new."""
    lines = table({"mixed: track": 1_000.0}, {"mixed: track": 1_051.0, "mixed: sort": 12_345.0}).splitlines()
    assert [line.split() for line in lines] == [
        ["mixed:", "track", "1,051", "+5.1%"],
        ["mixed:", "sort", "12,345", "new"],
    ]


def test_the_page_has_the_counts_on_record() -> None:
    """As `--update` writes them."""
    page = PAGE.read_text(encoding="utf-8")
    assert with_counts(page, read(FILE).per_message) == page
    assert with_counts(page, {"mixed: poll": 1_234.4}) != page


def test_counts_are_put_into_the_rows_of_their_stages() -> None:
    """A stage that an input does not have has an empty cell; other lines stay."""
    page = (
        "| Stage | What | Mixed | Faults |\n| `poll` | Copies | 1 | 2 |\n| `sort` | Sorts | | |\n"
        "| `lag` | Of another table | 7 | 8 |\n"
    )
    assert with_counts(page, {"mixed: poll": 690.3, "mixed: sort": 795.4, "faults: sort": 1_593.9}) == (
        "| Stage | What | Mixed | Faults |\n| `poll` | Copies | 690 | |\n| `sort` | Sorts | 795 | 1,594 |\n"
        "| `lag` | Of another table | 7 | 8 |\n"
    )


def test_the_counts_on_record_have_every_stage() -> None:
    """From the poll to the commit and for the whole job, of both inputs."""
    names = {tuple(name.split(": ")) for name in read(FILE).per_message}
    stages = {"decode", "split", "track", "deduplicate", "states", "copy", "sort", "parquet", "commit", "job"}
    assert names == {
        *(("mixed", stage) for stage in (*stages, "poll", "decode coinbase")),
        *(("faults", stage) for stage in stages),
    }
