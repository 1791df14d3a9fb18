"""Tables for people: as wide as the terminal, and without loss if it is narrow."""

import pytest

from k2.cli.table_output import print_table

COLUMNS = ("topic", "partition", "last_sequence", "error")
ROWS = [("trades", 0, 1_234_567_890_123, "price: not a decimal, as long as an error may well be"), ("x", 1, 7, "[b]")]


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Print the rows and return the lines."""
    print_table("Title", COLUMNS, ROWS)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Text is folded, numbers never."""
    monkeypatch.setenv("COLUMNS", str(width))
    lines = shown(capsys)
    assert max(map(len, lines)) <= width
    assert sum("1,234,567,890,123" in line for line in lines) == 1
    assert all(any(word in line for line in lines) for word in ("trades", "decimal", "[b]"))


@pytest.mark.parametrize("width", [0, 10, 40])
def test_a_narrow_terminal_gets_one_field_per_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Every value is complete, with its name."""
    monkeypatch.setenv("COLUMNS", str(width))
    assert shown(capsys) == [
        "Title",
        "",
        "topic          trades",
        "partition      0",
        "last sequence  1,234,567,890,123",
        "error          price: not a decimal, as long as an error may well be",
        "",
        "topic          x",
        "partition      1",
        "last sequence  7",
        "error          [b]",
    ]


def test_a_title_is_one_line_however_narrow_its_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table with one short column does not fold its title."""
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table("Answer", ("n",), [(1,)])
    assert capsys.readouterr().out.splitlines()[0] == "Answer"


def test_a_file_has_no_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """If stdout is not a terminal, a row is one line."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert any("trades" in line and "as long as an error may well be" in line for line in shown(capsys))
