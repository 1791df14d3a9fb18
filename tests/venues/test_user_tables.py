"""Tables of the user: files and folders of K2_VENUES, and which names they may take."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from k2.iceberg.decoding import decoding_of
from k2.model.errors import SettingsError
from k2.ops.settings import read_settings
from k2.venues import VENUES
from tests.venues.test_tables import MESSAGE, TABLE, encoded


@pytest.fixture(autouse=True)
def no_tables_left() -> Iterator[None]:
    """Leave the registry without tables of a user."""
    yield
    VENUES.use_tables("")


def write(path: Path, text: str = TABLE, name: str = "bourse") -> Path:
    """Write a table under a name."""
    path.write_text(text.replace('name = "bourse"', f'name = "{name}"'), encoding="utf-8")
    return path


def test_files_and_folders_are_read(tmp_path: Path) -> None:
    """A topic may name their venues; without the setting they are gone again."""
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "a.toml", name="first")
    (tmp_path / "folder" / "b.toml").write_text('name = "second"\nextends = "third"\n', encoding="utf-8")
    third = write(tmp_path / "c.toml", name="third")
    setting = f"{tmp_path / 'folder'}, {third},"
    settings = read_settings({"K2_VENUES": setting, "K2_TOPICS": "t=first,u=second"})
    assert [topic.venue for topic in settings.topics] == ["first", "second"]
    assert {"first", "second", "third", "okx"} <= {*VENUES}
    [trade] = VENUES["second"].decode(encoded())
    assert (trade.symbol, trade.sequence) == (MESSAGE["s"], MESSAGE["n"])
    with pytest.raises(SettingsError, match=r"K2_TOPICS='t=first': unknown venue 'first'"):
        read_settings({"K2_TOPICS": "t=first"})


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    """It is the wrong folder."""
    with pytest.raises(SettingsError, match=r"^K2_VENUES names the folder .*, which has no table; a table is"):
        read_settings({"K2_VENUES": str(tmp_path)})


def test_a_second_view_is_of_a_venue_that_exists(tmp_path: Path) -> None:
    """A misspelt name would store every trade twice."""
    text = TABLE.replace('name = "bourse"', 'name = "bourse"\nview_of = "binance-spott"')
    path = write(tmp_path / "mine.toml", text)
    with pytest.raises(SettingsError, match=r"mine.toml line 2: view_of: there is no venue 'binance-spott'; see"):
        read_settings({"K2_VENUES": str(path)})
    path = write(tmp_path / "mine.toml", text.replace("binance-spott", "bourse"))
    with pytest.raises(SettingsError, match=r"mine.toml line 2: view_of: is this venue itself; name the other one"):
        read_settings({"K2_VENUES": str(path)})


def test_a_built_in_name_is_taken_only_on_purpose(tmp_path: Path) -> None:
    """With `replaces`; such a table may extend the venue that it replaces."""
    path = write(tmp_path / "okx.toml", name="okx")
    with pytest.raises(SettingsError, match=r"okx.toml line 1: name: 'okx' is a built-in venue; choose another name"):
        read_settings({"K2_VENUES": str(path)})
    text = 'name = "okx"\nextends = "okx"\nreplaces = true\nexchange = "okex"\n'
    read_settings({"K2_VENUES": str(write(path, text))})
    assert (VENUES["okx"].exchange, VENUES["okx"].name) == ("okex", "okx")
    read_settings({})
    assert VENUES["okx"].exchange == "okx"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (TABLE.replace("exchange", "replaces = true\nexchange", 1), "line 3: replaces: there is no built-in venue"),
        (TABLE.replace("symbol", "sym", 1), "line 6: sym: unknown key"),
        ("name =", "line 1: not TOML"),
    ],
)
def test_a_wrong_table_stops_the_start(tmp_path: Path, text: str, sentence: str) -> None:
    """With file and line; the tables from before remain."""
    path = write(tmp_path / "bourse.toml")
    read_settings({"K2_VENUES": str(path)})
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=sentence):
        read_settings({"K2_VENUES": str(path)})
    assert "bourse" in VENUES


def test_a_missing_file_and_two_of_a_name_are_refused(tmp_path: Path) -> None:
    """Neither is passed over in silence."""
    with pytest.raises(SettingsError, match=r"K2_VENUES names .*absent, which does not exist; name a table"):
        read_settings({"K2_VENUES": str(tmp_path / "absent")})
    write(tmp_path / "a.toml")
    write(tmp_path / "b.toml")
    with pytest.raises(SettingsError, match=r"b.toml and .*a.toml are both tables of venue 'bourse'; remove one"):
        read_settings({"K2_VENUES": str(tmp_path)})


def test_a_changed_table_is_another_decoding(tmp_path: Path) -> None:
    """The digest of a table is recorded with the settings, and says whether it is the user's; code has none."""
    path = write(tmp_path / "bourse.toml")
    environment = {"K2_VENUES": str(path), "K2_TOPICS": "t=bourse,u=okx,v=k2"}
    before = decoding_of(read_settings(environment))
    assert before["v"] == "K2_TOPICS=v=k2 K2_TIME_AHEAD_SECONDS_MAX=86400"
    assert before["u"].startswith("K2_TOPICS=u=okx K2_TIME_AHEAD_SECONDS_MAX=86400 and the built-in table of digest ")
    assert before["t"].startswith("K2_TOPICS=t=bourse K2_TIME_AHEAD_SECONDS_MAX=86400 and the table of digest ")
    assert decoding_of(read_settings(environment)) == before
    write(path, TABLE.replace('path = "q"', 'path = "size"'))
    after = decoding_of(read_settings(environment))
    assert (after["t"] != before["t"], after["u"]) == (True, before["u"])
