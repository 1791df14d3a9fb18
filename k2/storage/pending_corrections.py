"""Pending corrections: those of a writer's last commit, in a property of `trades` until they are in `corrections`.

They are recorded in the same swap of metadata as the progress that counts them, so a crash before the commit to the
table `corrections` loses none.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from k2.model.correction import PlacedCorrection
from k2.model.documents import read_document

__all__ = ["PendingCorrections", "correction_row", "parse_pending_corrections", "pending_corrections_text"]

_FORMAT: Final = 1


class PendingCorrections(msgspec.Struct, frozen=True):
    """The corrections of one commit."""

    commit: str = ""
    """The id of the commit to `trades`, and of the commit that adds them to `corrections`."""
    rows: Sequence[PlacedCorrection] = ()
    format: int = _FORMAT


def parse_pending_corrections(text: str) -> PendingCorrections:
    """Parse the text of the property.

    Raises:
        ValueError: the text does not have the documented shape, or has another format version.
    """
    return read_document(text, PendingCorrections, _FORMAT)


def pending_corrections_text(pending: PendingCorrections) -> str:
    """Return the text of the property."""
    return msgspec.json.encode(pending).decode()


def correction_row(placed: PlacedCorrection) -> dict[str, Any]:
    """Return a correction as a row of its table; times are in microseconds."""
    row = {**placed.correction._asdict(), **msgspec.structs.asdict(placed)}
    del row["correction"]
    return row
