"""Head numbers: what a venue says is the newest number of a symbol, compared with what has arrived.

A trade shows that the numbers between it and the one before are missing. Nothing follows the newest trade, so only the
venue can say that more exist: by a heartbeat or a ticker with the number of the last trade. Trades and heartbeats may
arrive in either order, so a number that was named counts as missing only if it has not arrived a minute later, by the
Kafka timestamps. What a person says (`k2 head`) counts at once.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEAD_COLUMNS", "HEAD_GRACE_US", "HEAD_NUMBER", "HEAD_SINCE", "no_heads"]

HEAD_GRACE_US: Final = 60_000_000
"""How long after a number was named its trade may still arrive, microseconds by the Kafka timestamps."""
HEAD_NUMBER: Final = 0
"""Column of a symbol's head: the oldest number that was named and has not arrived; the least int64 for none."""
HEAD_SINCE: Final = 1
"""Column of a symbol's head: the Kafka time of the message that named it, microseconds."""
HEAD_COLUMNS: Final = 2


def no_heads(slots: int) -> NDArray[np.int64]:
    """Return int64[slots, HEAD_COLUMNS], in which no symbol has a number that was named.

    It is no part of the state: a lost one begins again with the next message that names a number.
    """
    heads = np.zeros((slots, HEAD_COLUMNS), dtype=np.int64)
    heads[:, HEAD_NUMBER] = np.iinfo(np.int64).min
    return heads
