"""`k2 venues`: the list, a table, its schema, and the check of a table against a capture."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from k2.cli.main import app
from k2.venues import VENUES

DATA = Path(__file__).parents[1] / "data"
MINE = 'name = "mine"\nextends = "{base}"\n'


def k2(*arguments: str, **environment: str) -> Result:
    """Run `k2 venues`."""
    try:
        return CliRunner().invoke(app, ["venues", *arguments], env={"COLUMNS": "200", **environment})
    finally:
        VENUES.use_tables("")


def table(tmp_path: Path, base: str, more: str = "") -> str:
    """Write a table that changes a built-in one, and return its file."""
    path = tmp_path / "mine.toml"
    path.write_text(MINE.format(base=base) + more, encoding="utf-8")
    return str(path)


def test_all_venues_are_listed(tmp_path: Path) -> None:
    """Built-in ones and the user's, with the digest that the job records."""
    file = table(tmp_path, "okx")
    rows = {row["venue"]: row for row in json.loads(k2("list", "--json", K2_VENUES=file).stdout)}
    assert {*rows} == {*VENUES, "mine"}
    assert rows["okx"] == {
        "venue": "okx",
        "exchange": "okx",
        "numbering": "range",
        "table": "built in",
        "file": None,
        "digest": None,
    }
    assert (rows["mine"]["table"], rows["mine"]["file"], len(rows["mine"]["digest"])) == ("K2_VENUES", file, 16)
    assert "of the message" in k2("list").stdout
    numberings = {name: found.numbering for name in VENUES.tables if (found := VENUES.table_of(name))}
    assert {name: rows[name]["numbering"] for name in numberings} == numberings


def test_a_table_is_shown(tmp_path: Path) -> None:
    """As its file has it, or as JSON with what it inherits."""
    assert k2("show", "okx").stdout == VENUES.tables["okx"].read_text(encoding="utf-8")
    file = table(tmp_path, "okx", 'exchange = "other"\n')
    found = json.loads(k2("show", "mine", "--json", K2_VENUES=file).stdout)
    assert (found["name"], found["exchange"], found["price"]["path"]) == ("mine", "other", "px")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("okex", "unknown venue 'okex'; did you mean 'okx'?"),
        ("k2", "venue k2 is in code and has no table; see docs/messages.md for its messages"),
    ],
)
def test_a_venue_without_a_table_is_named(name: str, sentence: str) -> None:
    """With the nearest name, or where its messages are described."""
    done = k2("show", name)
    assert (done.exit_code, done.stderr) == (2, f"k2: {sentence}\n")


def test_the_schema_is_json() -> None:
    """With or without the option."""
    assert json.loads(k2("schema").stdout) == json.loads(k2("schema", "--json").stdout)
    assert "VenueTable" in json.loads(k2("schema").stdout)["$defs"]


def test_a_fitting_table_is_checked(tmp_path: Path) -> None:
    """Trades, skipped messages by reason, the first trades, and whether numbers are contiguous."""
    arguments = ["check", table(tmp_path, "htx"), "--against", str(DATA / "huobi-spot-trade.ndjson.gz")]
    done = k2(*arguments)
    assert done.exit_code == 0, done.output
    assert "10 subscription reply, 6 heartbeat" in done.stdout
    assert "contiguous: none is left out in 63 steps of 10 symbols" in done.stdout
    assert "trioeth" in done.stdout
    found = json.loads(k2(*arguments, "--json").stdout)
    assert (found["messages"], found["with_trades"], found["trades"], found["dead_letters"]) == (60, 44, 73, [])
    assert found["skipped"] == {"subscription_reply": 10, "heartbeat": 6}
    assert found["first_trades"][0]["price"] == "0.00000092"
    assert found["first_trades"][0]["timestamp"] == "2021-04-17T16:47:07.940000Z"


def test_holes_are_reported(tmp_path: Path) -> None:
    """With the mode that fits if they mean nothing; the exit code is 0, because a capture may have gaps."""
    more = 'numbering = "contiguous"\n'
    done = k2("check", table(tmp_path, "bitstamp", more), "--against", str(DATA / "bitstamp-live_trades.ndjson.gz"))
    assert done.exit_code == 0
    assert "not contiguous: 16 of 26 steps of 6 symbols leave out 744 numbers" in done.stdout
    assert 'numbering = "monotonic" fits if holes mean nothing' in done.stdout


def test_trades_without_numbers_are_named(tmp_path: Path) -> None:
    """No longer capture would say whether they are contiguous."""
    done = k2("check", table(tmp_path, "bitmex"), "--against", str(DATA / "bitmex-trade.ndjson.gz"))
    assert done.exit_code == 0
    assert "the trades have no numbers" in done.stdout


def test_a_table_that_does_not_fit_fails(tmp_path: Path) -> None:
    """The first dead letter of each kind is shown with its line; the exit code is 1."""
    capture = tmp_path / "capture"
    lines = [b"not json", b"", b'{"type":"match"}', b'{"type":"match","trade_id":"7"}', b'{"type":"open"}', b"[x]"]
    capture.write_bytes(b"\n".join(lines))
    arguments = ["check", table(tmp_path, "coinbase"), "--against", str(capture)]
    done = k2(*arguments)
    assert done.exit_code == 1
    assert "type: 'open' is not read from a mine topic" in done.stdout
    found = json.loads(k2(*arguments, "--json").stdout)
    assert [(one["reason"], one["count"], one["line"]) for one in found["dead_letters"]] == [
        ("malformed", 2, 1),
        ("invalid", 1, 3),
        ("invalid", 1, 4),
        ("unsupported", 1, 5),
    ]
    assert found["numbers_verdict"] == "too few numbers to say whether they are contiguous"


def test_a_wrong_table_is_one_sentence(tmp_path: Path) -> None:
    """With the line, before a capture is read; the exit code is 2. Without a capture, a good one is summed up."""
    done = k2("check", table(tmp_path, "okx", "symbl = 1\n"), "--against", "absent")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "mine.toml line 3: symbl: unknown key; did you mean 'symbol'?" in done.stderr
    good = k2("check", table(tmp_path, "okx"), "--json")
    assert json.loads(good.stdout)["venue"] == "mine"


@pytest.mark.parametrize("payload", ["avro", "protobuf"])
def test_a_table_of_records_is_not_checked_against_lines(tmp_path: Path, payload: str) -> None:
    """Its messages are no lines; without a capture the table itself is checked, and no registry is needed."""
    file = table(tmp_path, "okx", f'payload = "{payload}"\n')
    result = k2("check", file, "--against", str(DATA / "okx-trades-20220513.ndjson.gz"))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert f"{file} reads {payload} messages, which no capture of lines holds; `k2 doctor` tries" in result.stderr
    assert k2("check", file).exit_code == 0
    assert k2("list", K2_VENUES=file).exit_code == 0
