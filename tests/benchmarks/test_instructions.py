"""`make instructions`: what it compares with, and how it ends."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import instructions
from benchmarks.instruction_counts import Counts, read, write

HERE = {"numba": "2"}
Answers = dict[str, bytes]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what runs the command, on sources that take 1,000 instructions where a commit took `then`."""

    def run(recorded: Counts, *arguments: str, then: float = 1_000, git: Answers | None = None) -> str:
        answers = {"rev-parse": b"false\n", "log": b"abc1234\n", "diff": b"k2/a.py\n", "archive": b""} | (git or {})
        file = tmp_path / "benchmarks" / "instructions.json"
        file.parent.mkdir()
        page = tmp_path / "page.md"
        page.write_text("| `decode` | Decodes | | |\n", encoding="utf-8")
        write(recorded, file)
        monkeypatch.setattr("sys.argv", ["make instructions", *arguments])
        monkeypatch.setattr(instructions, "ROOT", tmp_path)
        monkeypatch.setattr(instructions, "FILE", file)
        monkeypatch.setattr(instructions, "PAGE", page)
        monkeypatch.setattr(instructions, "read", lambda: read(file))
        monkeypatch.setattr(instructions, "write", lambda counts: write(counts, file))
        monkeypatch.setattr(instructions, "_lacking", lambda: None)
        monkeypatch.setattr(instructions, "_versions", lambda: HERE)
        monkeypatch.setattr(instructions, "_git", lambda *words: answers[words[0]])
        monkeypatch.setattr(instructions, "_count_commit", lambda _: Counts(HERE, {"mixed: decode": then}))
        monkeypatch.setattr(instructions, "count", lambda _: Counts(HERE, {"mixed: decode": 1_000.0}))
        instructions.main()
        return capsys.readouterr().out

    return run


def of(count: float, numba: str = "2") -> Counts:
    """Return counts of the only stage."""
    return Counts({"numba": numba}, {"mixed: decode": count})


def test_a_stage_within_a_tenth_passes(run: Callable[..., str]) -> None:
    """It prints the table."""
    assert run(of(950)).split() == ["mixed:", "decode", "1,000", "+5.3%"]


@pytest.mark.parametrize(("base", "word"), [(900, "11% more than the 900"), (1_200, "17% fewer than the 1,200")])
def test_a_stage_that_moved_by_more_fails(
    run: Callable[..., str], capsys: pytest.CaptureFixture[str], base: float, word: str
) -> None:
    """It names the stage."""
    with pytest.raises(SystemExit) as ended:
        run(of(base))
    assert ended.value.code == 1
    assert f"mixed: decode takes 1,000 instructions a message, {word} of" in capsys.readouterr().out


def test_with_other_versions_the_commit_of_the_file_is_counted(
    run: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its counts are compared, not those of the file, and all versions that differ are named."""
    with pytest.raises(SystemExit):
        run(of(1_000, numba="1"), then=800)
    out = capsys.readouterr().out
    assert (
        "was counted with other versions (numba 2 instead of 1), so its commit abc1234 is counted here as well" in out
    )
    assert "mixed: decode takes 1,000 instructions a message, 25% more than the 800 of commit abc1234" in out


def test_sources_of_that_commit_are_not_compared_with_themselves(run: Callable[..., str]) -> None:
    """It says so."""
    assert "the sources are those of its commit abc1234" in run(of(1, numba="1"), git={"diff": b""})


def test_a_clone_without_history_is_an_error(run: Callable[..., str]) -> None:
    """One sentence names the way."""
    with pytest.raises(SystemExit, match=r"lacks the history .*; fetch it with `git fetch --unshallow`"):
        run(of(1, numba="1"), git={"rev-parse": b"true\n"})


def test_update_records_the_counts_and_says_by_how_much_they_moved(run: Callable[..., str], tmp_path: Path) -> None:
    """With the versions of this run, whatever the file was made with."""
    out = run(of(2_000, numba="1"), "--update")
    assert "numba 2 instead of 1\n" in out
    assert "1,000  -50.0%" in out
    assert read(tmp_path / "benchmarks" / "instructions.json") == of(1_000)
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == "| `decode` | Decodes | 1,000 | |\n"


@pytest.mark.parametrize(("on_ci", "code"), [("", 0), ("true", 1)])
def test_a_machine_without_valgrind_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_ci: str, code: int
) -> None:
    """On CI that is a failure."""
    monkeypatch.setenv("CI", on_ci)
    monkeypatch.setattr("sys.argv", ["make instructions"])
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        instructions.main()
    assert ended.value.code == code
    assert capsys.readouterr().out == (
        "instructions are not counted here: no valgrind; install it (on Debian and Ubuntu: apt install valgrind)\n"
    )
