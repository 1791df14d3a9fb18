"""The comparison with other engines: its arithmetic, its tables, and its check of what has landed."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from benchmarks.mixture import Mixture
from benchmarks.peers import session
from benchmarks.peers.__main__ import main
from benchmarks.peers.contender import Ability, Launch, Task
from benchmarks.peers.contenders import CONTENDERS, quix, spark
from benchmarks.peers.drawing import draw
from benchmarks.peers.expected import Sums, expected_of
from benchmarks.peers.pins import pinned_version
from benchmarks.peers.processes import run_until
from benchmarks.peers.results import (
    Comparison,
    Figures,
    Run,
    Turn,
    abilities_table,
    figures_of,
    figures_table,
    read,
    write,
)
from benchmarks.peers.stored_table import differences, read_table, rows_committed
from tests.maven import version_in
from tests.test_structure import ROOT

CORES = os.sched_getaffinity(0)
MESSAGES = {"small": 1_000, "whole": 1_001_000}


def figures(
    name: str, cpu_seconds: list[float], abilities: list[Ability] | None = None, faults: list[str] | None = None
) -> Figures:
    """Return the figures of runs with this CPU time, of which 2 s are the start-up."""
    turns = [
        Turn(Run(2.0, 3.0, 90), Run(cpu, 13.0, 100.0, 1_000, 2, 3, 4.0, 5.0, None, faults or [])) for cpu in cpu_seconds
    ]
    return figures_of(name, f"the {name}", "As it is.", abilities or [], turns, MESSAGES)


def comparison(*contenders: Figures) -> Comparison:
    """Return what a session found."""
    return Comparison(1_001_000, 1_000, 4, 3, "kafka 4", [1], [0], 1, 4, list(contenders), {"other": "it is not here"})


def test_the_start_up_is_subtracted() -> None:
    """Medians of both topics, over the messages that the one has more than the other."""
    found = figures("job", [5.0, 4.0, 40.0])
    assert found.cpu_us == pytest.approx(3.0)
    assert found.messages_per_second == pytest.approx(100_000)
    assert (found.start_cpu_seconds, found.whole_cpu_seconds, found.peak_mb) == (2.0, 5.0, 100.0)


def test_the_rate_of_a_short_run_is_unknown() -> None:
    """A run that is shorter than its start-up has none, and is shown as such."""
    found = figures_of("job", "the job", "As it is.", [], [Turn(Run(2.0, 13.0, 90), Run(3.0, 12.0, 90))], MESSAGES)
    assert found.messages_per_second is None
    assert "| 1.00 | - | - |" in figures_table(comparison(found))


def test_figures_are_compared_with_the_bare_loop() -> None:
    """Where it took part."""
    bare, job = figures("bare", [3.0]), figures("job", [4.5])
    assert comparison(bare, job).times_bare(job) == pytest.approx(2.5)
    assert comparison(job).times_bare(job) is None


def test_tables_show_each_contender() -> None:
    """One with other rows than the topic holds is shown as wrong, and what it does is a row."""
    shown = comparison(
        figures("bare", [3.0]), figures("engine", [4.5], [Ability.DEDUPLICATION], ["rows 9, expected 10"])
    )
    lines = figures_table(shown).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith("| the bare | 1.00 | 1.0 | 100,000 | 3.0 | 2.0 | 100 |")
    assert lines[3].endswith("| **wrong**: rows 9, expected 10 |")
    assert abilities_table(shown).splitlines()[3] == "| the engine | no | yes | no | no | no | As it is. |"


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """So that tables and the picture can be made again without measuring."""
    found = comparison(figures("bare", [3.0]), figures("job", [4.5], list(Ability), ["rows 9, expected 10"]))
    write(found, tmp_path / "peers.json")
    assert read(tmp_path / "peers.json") == found


def test_the_picture_names_each_contender(tmp_path: Path) -> None:
    """The same figures give the same bytes."""
    found = comparison(
        figures("bare", [3.0]), figures("job", [4.5], list(Ability)), figures("engine", [9.0], [], ["rows"])
    )
    draw(found, tmp_path / "one.svg")
    draw(found, tmp_path / "two.svg")
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert ET.fromstring(text).tag.endswith("svg")  # noqa: S314  our own file
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    # Text is drawn as outlines, each preceded by a comment with what it says.
    for said in ("the bare", "the job", "the engine", "lands wrong rows"):
        assert f"<!-- {said} -->" in text


def test_the_truth_of_a_mixture_adds_up() -> None:
    """Each message is a trade, a copy of one, or malformed; each of the faults is among them."""
    expected = expected_of(value for _, value in Mixture(20_000).records())
    assert expected.messages == expected.copies.rows + expected.malformed == 20_000
    assert expected.trades.rows == expected.trades.distinct == expected.copies.distinct < expected.copies.rows
    assert 5 < expected.malformed < 50


def test_the_truth_counts_what_is_valid() -> None:
    """Valid JSON with a positive quantity and an integer time."""
    trade = {"symbol": "A", "sequence": 1, "price": "-2.5", "quantity": "3", "timestamp": 4}
    values = [trade, trade, trade | {"quantity": "-1"}, trade | {"timestamp": "noon"}, trade | {"sequence": 2}]
    expected = expected_of([*(json.dumps(value).encode() for value in values), b'{"symbol":'])
    assert expected.trades == Sums(2, 2, Decimal(-5), Decimal(6), 8)
    assert expected.copies == Sums(3, 2, Decimal("-7.5"), Decimal(9), 12)
    assert expected.malformed == 3


def test_what_has_landed_is_read_without_the_catalog(tmp_path: Path) -> None:
    """Rows, sums, files and commits of the newest metadata; nothing before there is a table."""
    assert rows_committed(tmp_path) == 0
    with pytest.raises(FileNotFoundError, match="no table named trades"):
        read_table(tmp_path)
    rows = pa.table(
        {
            "symbol": ["A", "A", "B"],
            "sequence": [1, 1, 1],
            "price": pa.array([Decimal("1.5"), Decimal("1.5"), Decimal(2)], pa.decimal128(38, 18)),
            "quantity": pa.array([Decimal(1), Decimal(1), Decimal(3)], pa.decimal128(38, 18)),
            "timestamp": pa.array([10, 10, 20], pa.timestamp("us", "UTC")),
        }
    )
    catalog = SqlCatalog("local", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("any")
    table = catalog.create_table("any.trades", schema=rows.schema)
    assert rows_committed(tmp_path) == read_table(tmp_path).sums.rows == 0
    for _ in range(11):
        table.append(rows)
    catalog.close()
    assert rows_committed(tmp_path) == 33
    found = read_table(tmp_path)
    assert found.sums == Sums(33, 2, Decimal(55), Decimal(55), 440)
    assert (found.data_files, found.commits) == (11, 11)


def test_a_contender_is_done_when_its_rows_are_there_or_no_more_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its first row it is waited for, however long it takes."""
    now, rows = 0.0, 0
    monkeypatch.setattr(session.time, "monotonic", lambda: now)
    monkeypatch.setattr(session, "rows_committed", lambda warehouse: rows)
    is_done = session.Arrival(tmp_path, 10)
    now = 1_000.0
    assert not is_done()
    rows = 9
    assert not is_done()
    now = 1_121.0
    assert is_done()
    now, rows = 1_122.0, 10
    assert is_done()


def test_wrong_rows_are_named() -> None:
    """A contender that drops duplicates must land each trade once, any other all copies."""
    trade = b'{"symbol":"A","sequence":1,"price":"2","quantity":"3","timestamp":4}'
    expected = expected_of([trade, trade])
    assert differences(Sums(2, 1, Decimal(4), Decimal(6), 8), expected, deduplicates=False) == []
    assert differences(Sums(1, 1, Decimal(2), Decimal(3), 4), expected, deduplicates=True) == []
    assert differences(Sums(1, 1, Decimal(2), Decimal(3), 5), expected, deduplicates=True) == [
        "timestamp_us 5, expected 4"
    ]
    assert "rows 2, expected 1" in differences(Sums(2, 1, Decimal(4), Decimal(6), 8), expected, deduplicates=True)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Return a task whose broker is never asked."""
    return Task("127.0.0.1:9", "trades", 1, tmp_path)


BURN = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\n"


def test_cpu_time_includes_children(task: Task) -> None:
    """Those that are waited for, and those that are not."""
    source = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BURN!r}])\n{BURN}"
    taken = run_until(
        task, Launch([sys.executable, "-c", source]), CORES, lambda: False, ends_itself=True, seconds_max=60
    )
    assert taken.failure == ""
    assert 1.0 <= taken.cpu_seconds < 10
    assert taken.peak_mb > 5


def test_a_contender_that_does_not_end_is_stopped_when_all_is_there(task: Task) -> None:
    """Its children with it."""
    child = "[sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[1]]"
    source = f"import subprocess, sys, time; subprocess.Popen({child}); open(sys.argv[1], 'w').close(); time.sleep(600)"
    launch = Launch([sys.executable, "-c", source, str(task.folder / "there")], files={"some/settings": "a = 1"})
    taken = run_until(task, launch, CORES, (task.folder / "there").exists, ends_itself=False, seconds_max=60)
    assert taken.failure == ""
    assert (task.folder / "some" / "settings").read_text(encoding="utf-8") == "a = 1"
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(task.folder) not in found


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise SystemExit('broken pipe')", r"it ended with 1; its output ends: broken pipe"),
        ("import time; time.sleep(9)", "after 1 s"),
    ],
)
def test_a_failed_run_says_why(task: Task, source: str, why: str) -> None:
    """With the end of its output."""
    taken = run_until(
        task, Launch([sys.executable, "-c", source]), CORES, lambda: False, ends_itself=False, seconds_max=1
    )
    assert why in taken.failure


def test_contenders_have_names_of_their_own() -> None:
    """And each says in a sentence how it is configured."""
    names = [contender.name for contender in CONTENDERS]
    assert len(set(names)) == len(names)
    assert all(contender.configured.endswith(".") for contender in CONTENDERS)


def test_pinned_versions_are_shown(tmp_path: Path) -> None:
    """Those of the requirements; and the jars from Maven are those of the same Spark."""
    assert pinned_version(spark.PINS, "pyspark") == version_in(spark.POM, "spark-peer")
    assert pinned_version(quix.PINS, "quixstreams") in quix.CONTENDER.title
    (tmp_path / "some.txt").write_text("pyspark-client==1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pyspark is not pinned in some\.txt"):
        pinned_version(tmp_path / "some.txt", "pyspark")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--messages", "4000"], "too few messages: 4000; the start-up is measured on 4000, so give more"),
        (["--contenders", "bare,flunk"], "unknown contender: flunk; choose from bare, job"),
    ],
)
def test_wrong_options_are_refused(
    options: list[str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a broker is started."""
    monkeypatch.setattr(sys, "argv", ["peers", *options])
    with pytest.raises(SystemExit):
        main()
    assert why in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_contenders_land_the_same_trades(tmp_path: Path) -> None:
    """The bare loop, the job and the hand-written consumer read one topic, and nothing that they land is wrong."""
    options = ["--contenders", "bare,job,hand-written", "--messages", "20000", "--runs", "1"]
    files = ["--json", str(tmp_path / "peers.json"), "--svg", str(tmp_path / "peers.svg")]
    command = [sys.executable, "-m", "benchmarks.peers", *options, *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = read(tmp_path / "peers.json")
    assert [one.name for one in found.contenders] == ["bare", "job", "hand-written"]
    assert [one.faults for one in found.contenders] == [[], [], []]
    bare, job, hand_written = (one.last for one in found.contenders)
    assert bare.rows == 20_000
    assert hand_written.rows == 20_000 - found.malformed
    assert (job.rows, job.dead_letters) == (hand_written.rows - found.duplicates, found.malformed)
    assert (tmp_path / "peers.svg").stat().st_size > 10_000
