"""Tables with two feeds, of which one has lost more than the other."""

from datetime import date, timedelta

import numpy as np

from k2.iceberg.tables import TableName
from k2.model.feeds import BUCKETS, FeedDay, FeedTopic, GroupFeeds, SymbolFeeds
from k2.ops.settings import Settings
from k2.sequencing.feed_states import FeedStates
from k2.sequencing.feeds_kernel import bucket_of
from k2.storage.table_properties import FEEDS
from tests.query.tables import EPOCH, append, event, made, numbered

__all__ = ["write_feeds"]

TOPICS = (FeedTopic("ta", "A", 2), FeedTopic("tb", "B", 2))
TODAY = (EPOCH.date() - date(1970, 1, 1)).days


def write_feeds(settings: Settings) -> None:
    """Store three sessions of a symbol, of which the property has two, with what two feeds lost of them."""
    trades = made(settings, TableName.TRADES)
    rows = [numbered(number, number / 10, session=1, topic="ta") for number in range(1, 6)]
    rows += [numbered(number, 3 + number / 10, session=2, topic="tb") for number in range(1, 6)]
    rows += [numbered(number, 20 + number, session=3, topic="ta") for number in range(1, 10) if number != 6]
    append(trades, rows)
    symbol = {"topic": "tb", "session": 3}
    append(
        made(settings, TableName.SEQUENCE_EVENTS),
        [
            event("feed_gap", 2, 3, topic="ta", session=1),
            event("feed_gap", 3, 3, topic="tb", session=2),
            event("feed_gap_filled", 3, 3, topic="tb", session=2),
            event("feed_gap", 3, 4, timestamp=EPOCH + timedelta(hours=24.5), **symbol),
            event("feed_gap", 3, 4, timestamp=EPOCH + timedelta(hours=24.5), **symbol),
            event("feed_gap", 6, 6, timestamp=EPOCH + timedelta(hours=26.5), **symbol),
            event("feed_gap", 6, 6, topic="ta", session=3, timestamp=EPOCH + timedelta(hours=26.5)),
            event("gap_opened", 6, 6, session=3),
            # Before its account began again.
            event("feed_gap", 1, 1, **symbol),
        ],
    )
    slots = np.array([[[3, 1, 1, 7, 9, 1], [3, 2, 2, 7, 8, 2]]], dtype=np.int64)
    states = FeedStates()
    states.begin(TOPICS)
    lags = {topic: np.zeros(BUCKETS, dtype=np.int64) for topic in ("ta", "tb")}
    lags["ta"][0] = 100
    lags["tb"][0], lags["tb"][bucket_of(5_000)], lags["tb"][bucket_of(2_000_000)] = 40, 55, 5
    days = tuple(FeedDay("binance", TODAY, topic, 60 * (topic == "ta"), one) for topic, one in lags.items())
    states.update(GroupFeeds(0, SymbolFeeds(("ta", "tb"), [("binance", "BTCUSDT")], slots), (), (), days))
    states.advance({})
    with trades.transaction() as transaction:
        transaction.set_properties(FEEDS.set_to(states, "0"))
