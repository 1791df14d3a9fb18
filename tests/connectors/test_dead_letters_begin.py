"""A start without a recovery store puts right what a resume that was cut off has left in the dead letters."""

from pathlib import Path

import pytest

from connectors.dead_letters.resume import begin
from runtime.dead_letter_files import letters_in
from tests.query.tables import letter

FILE_BYTES_MAX = 600
"""Two letters and a half."""


def write(folder: Path, *files: str) -> None:
    """Write files of letters, their offsets as digits; `?` is a line that is no letter, `/` one that has no end."""
    lines = {"?": b"no letter\n", "/": b'{"topic":'}
    for number, text in enumerate(files, 1):
        content = b"".join(lines.get(one) or letter(int(one)).line() for one in text)
        (folder / f"dlq-{number:08}.jsonl").write_bytes(content)


def read(folder: Path) -> str:
    """Read all lines that have an end, the same way."""
    lines = b"".join(path.read_bytes() for path in sorted(folder.glob("dlq-*"))).splitlines()
    offsets = {letter(offset).line()[:-1]: str(offset) for offset in range(10)}
    return "".join(offsets.get(line, "?") for line in lines)


@pytest.mark.parametrize(
    ("files", "left"),
    [
        (["012"], "012"),
        (["012", "34/"], "01234"),
        (["012", "12"], "012"),
        (["0123", "456", "45"], "0123456"),
        (["012", "12", "12"], "012"),
        (["010", "2"], "012"),
        (["0?1", "1?3", "?4"], "0?1?3?4"),
        (["01234567", "1234567"], "01234567"),
    ],
)
def test_a_letter_that_is_there_again_is_removed(tmp_path: Path, files: list[str], left: str) -> None:
    """Of each the first stays, lines that are no letters stay, and the next letter goes behind them all."""
    write(tmp_path, *files)
    position, index = begin(tmp_path, FILE_BYTES_MAX)
    assert read(tmp_path) == left
    assert [one.offset for one in letters_in(tmp_path, lambda _line: None)] == [int(one) for one in left if one != "?"]
    assert not index.has_doubles
    assert (tmp_path / position.file).stat().st_size == position.bytes
    assert position.file == max(path.name for path in tmp_path.glob("dlq-*"))
    assert begin(tmp_path, FILE_BYTES_MAX)[0] == position


def test_a_crash_on_the_way_is_put_right_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed when some of the old files are gone: no letter is lost, and none is there twice after the next start."""
    unlink, left = Path.unlink, iter([True, False])

    def killed(path: Path) -> None:
        if not next(left):
            raise KeyboardInterrupt
        unlink(path)

    write(tmp_path, "012", "13", "24", "15")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            begin(tmp_path, FILE_BYTES_MAX)
    assert {*read(tmp_path)} == {*"012345"}
    begin(tmp_path, FILE_BYTES_MAX)
    assert sorted(read(tmp_path)) == [*"012345"]
