"""Decoding: it may change between starts, but not within what only some writers have committed."""

from pathlib import Path

import pytest

from k2.iceberg.sink import TradesSink
from k2.model.errors import StateError
from k2.ops.settings import Settings, read_settings
from k2.storage.table_properties import DECODING
from k2.venues.registry import VenueRegistry
from tests.iceberg.running import Running, table_of


def settings_of(folder: Path, venue: str, seconds: int = 86_400) -> Settings:
    """Return the settings of a job with two writers that reads a topic as a venue's."""
    return read_settings({"K2_TOPICS": f"trades={venue}"}, data_dir=folder, writers=2, time_ahead_seconds_max=seconds)


def start(settings: Settings, **ids: str) -> dict[str, str]:
    """Do what a start does with the trades table; return the topic ids on record."""
    sink = TradesSink(settings)
    sink.open()
    return sink.remember_topics(ids)


@pytest.mark.parametrize("changed", [("binance-spot", 86_400), ("k2", 60)])
def test_a_change_waits_for_all_writers(tmp_path: Path, changed: tuple[str, int]) -> None:
    """One writer has committed more than the other: only the settings from before can replay what is in between."""
    before, after = settings_of(tmp_path, "k2"), settings_of(tmp_path, *changed)
    start(before)
    Running(before, "0").land(0, 4)
    sentence = (
        "trades:0 is committed up to offset 0 by one writer and 4 by another, because the job was killed in between; "
        "messages there must be decoded as before: start once more with "
        "K2_TOPICS=trades=k2 K2_TIME_AHEAD_SECONDS_MAX=86400 until the first commit, then change it"
    )
    with pytest.raises(StateError, match=f"^{sentence}$"):
        start(after)
    start(before)
    Running(before, "1").land(0, 4)
    start(after)
    recorded = DECODING.read(table_of(after).metadata.properties)["trades"]
    table = " and the built-in table of digest " if changed[0] == "binance-spot" else ""
    assert recorded.startswith(f"K2_TOPICS=trades={changed[0]} K2_TIME_AHEAD_SECONDS_MAX={changed[1]}{table}")


@pytest.mark.parametrize("is_recorded", [True, False])
def test_another_version_of_a_built_in_table_waits_for_all_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_recorded: bool
) -> None:
    """An upgrade can change a table; what an earlier version did not record counts as unchanged."""
    settings = settings_of(tmp_path, "kraken")
    with monkeypatch.context() as earlier:
        earlier.setattr(VenueRegistry, "builtin_digest", lambda *_: "0123456789abcdef" if is_recorded else None)
        start(settings)
    Running(settings, "0").land(0, 4)
    if not is_recorded:
        start(settings)
        return
    sentence = (
        "start once more with K2_TOPICS=trades=kraken K2_TIME_AHEAD_SECONDS_MAX=86400 and the built-in table of digest "
        "0123456789abcdef, which the version of K2 that ran before has, until the first commit, then change it"
    )
    with pytest.raises(StateError, match=sentence):
        start(settings)
    Running(settings, "1").land(0, 4)
    start(settings)


def test_other_topics_may_change(tmp_path: Path) -> None:
    """A topic that is new or no longer read is kept on record; nothing is written for the same again."""
    before = settings_of(tmp_path, "k2")
    start(before)
    Running(before, "0").land(0, 4)
    start(read_settings({"K2_TOPICS": "other=binance-spot"}, data_dir=tmp_path, writers=2))
    assert {*DECODING.read(table_of(before).metadata.properties)} == {"trades", "other"}
    metadata = table_of(before).metadata_location
    start(before)
    assert table_of(before).metadata_location == metadata


def test_a_start_records_its_topics_in_one_commit(tmp_path: Path) -> None:
    """Ids and decoding; nothing at all if a topic is another one than before."""
    settings = settings_of(tmp_path, "k2")
    sink = TradesSink(settings)
    sink.open()
    versions = len(table_of(settings).metadata.metadata_log)
    assert start(settings, trades="one") == {"trades": "one"}
    assert len(table_of(settings).metadata.metadata_log) == versions + 1
    metadata = table_of(settings).metadata_location
    assert start(settings_of(tmp_path, "binance-spot"), trades="other") == {"trades": "one"}
    assert table_of(settings).metadata_location == metadata
