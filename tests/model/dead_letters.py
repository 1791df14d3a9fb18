"""Dead letters for tests."""

from datetime import UTC, datetime
from typing import Any, Final

from k2.model.dead_letter import DeadLetter
from k2.model.reasons import Reason

__all__ = ["DEAD_LETTERED_AT", "dead_letter"]

DEAD_LETTERED_AT: Final = datetime(2024, 8, 9, tzinfo=UTC)


def dead_letter(offset: int, **values: Any) -> DeadLetter:
    """Return an unreadable message of partition 0 of topic `trades`, as a dead-letter file has it."""
    fields: dict[str, Any] = {
        "topic": "trades",
        "partition": 0,
        "offset": offset,
        "kafka_timestamp": DEAD_LETTERED_AT,
        "key": None,
        "value": "{",
        "reason": Reason.MALFORMED,
        "error": "not JSON",
        "error_type": "ValueError",
        "venue": "k2",
        "dead_lettered_at": DEAD_LETTERED_AT,
    }
    return DeadLetter(**{**fields, **values})
