"""Source of the files that trial changes add, and of what their proofs share."""

from typing import Final

__all__ = ["PAYLOAD", "REPORT", "REPORT_COMMAND", "TRADE", "VENUE"]

VENUE: Final = """\
# A bourse that sends one trade a message.
name = "bourse"
source = "https://docs.example.com/trades"
exchange = "bourse"
numbering = "contiguous"

symbol = { path = "symbol" }
sequence = { path = "trade_id" }
price = { path = "price" }
quantity = { path = "qty" }
time = { path = "timestamp", unit = "rfc3339" }
side = { path = "side", buy = ["buy"], sell = ["sell"] }

[[messages]]
"""

PAYLOAD: Final = '''\
"""The canonical message as MessagePack."""

from typing import Final

import msgspec

from k2.model.reasons import Reason, RejectedError
from k2.model.trade import Trade
from k2.venues import k2
from k2.venues.venue import SequenceMode, Venue


def _as_json(value: bytes) -> bytes:
    try:
        return msgspec.json.encode(msgspec.msgpack.decode(value))
    except msgspec.MsgspecError as error:
        raise RejectedError(Reason.MALFORMED, f"not MessagePack: {error}") from error


def decode(value: bytes) -> list[Trade]:
    """Decode one message to one trade."""
    return k2.decode(_as_json(value))


def key(value: bytes) -> str:
    """Return `exchange|symbol`."""
    return k2.key(_as_json(value))


K2_MSGPACK: Final = Venue("k2-msgpack", SequenceMode.CONTIGUOUS, decode, None, key)
'''

REPORT: Final = '''\
"""The number of dead letters by reason, as recorded in the folder."""

from collections import Counter

from k2.ops.settings import Settings
from k2.storage.dead_letters.files import read_dead_letters
from k2.storage.dead_letters.local_folder import LocalFolder


def reasons(settings: Settings) -> dict[str, int]:
    """Return the number of dead letters by reason."""
    letters = read_dead_letters(LocalFolder(settings.dead_letter_folder), lambda _: None)
    return dict(Counter(letter.reason.value for letter in letters))
'''

REPORT_COMMAND: Final = '''\
"""`k2 reasons`: the number of dead letters by reason."""

from k2.cli.table_output import print_table
from k2.ops.settings import read_settings
from k2.query.reasons import reasons as count_reasons


def reasons() -> None:
    """Print the number of dead letters by reason."""
    rows = [[reason, count] for reason, count in count_reasons(read_settings()).items()]
    print_table("Dead letters", ["reason", "count"], rows)
'''

TRADE: Final = """\
from pathlib import Path
from tests.iceberg.trades_table import read_to, row_at, settings_in, writer_of
from tests.model.trade_slices import slice_of
settings = settings_in(Path.cwd())
writer = writer_of(settings)
writer.write_batch([slice_of([row_at(0, sequence=7)]), read_to(1)])
writer.snapshot()
"""
