"""How the messages of each topic are decoded, recorded in the table: a replay must decode them in the same way.

Writers commit one after the other, so a crash can leave them at different offsets. Each then drops what it has of a
replay. If the replay decoded a message in another way, the table could have both its dead letter and its trade, or
neither.
"""

from collections.abc import Mapping
from typing import Final

from k2.model.committed_offsets import CommittedOffsets
from k2.model.errors import StateError
from k2.model.progress import Progress
from k2.ops.settings import Settings
from k2.venues import VENUES

__all__ = ["check_decoding", "decoding_of"]

_BUILT_IN: Final = " and the built-in table of digest "


def decoding_of(settings: Settings) -> dict[str, str]:
    """Return what decides how the messages of each topic are decoded: settings, and the digest of a venue's table."""
    ahead = f"K2_TIME_AHEAD_SECONDS_MAX={settings.time_ahead_seconds_max}"
    return {
        one.topic: f"K2_TOPICS={one.topic}={one.venue} {ahead}{_second_view(one.venue, settings)}{_table_of(one.venue)}"
        for one in settings.topics
    }


def _second_view(venue: str, settings: Settings) -> str:
    """Return that the trades of a topic are not stored, if another topic has the same."""
    is_second = VENUES.is_second_view(venue, {topic.venue for topic in settings.topics})
    return f" and a topic of {VENUES[venue].view_of}" if is_second else ""


def _table_of(venue: str) -> str:
    if digest := VENUES.user_digest(venue):
        return f" and the table of digest {digest} in K2_VENUES"
    digest = VENUES.builtin_digest(venue)
    return f"{_BUILT_IN}{digest}" if digest else ""


def check_decoding(progress: Progress, known: Mapping[str, str], decoding: Mapping[str, str], writers: int) -> None:
    """Check that topics may be decoded as in `decoding` from now on, rather than as in `known`, by topic.

    Versions before that of the first digest of a built-in table recorded none; such a table counts as unchanged.

    Raises:
        StateError: that has changed for a topic of which one writer has committed more than another.
    """
    changed = {
        topic for topic, how in decoding.items() if known.get(topic, how) not in (how, how.partition(_BUILT_IN)[0])
    }
    committed = CommittedOffsets(progress, writers)
    for topic_partition in progress.partitions():
        offsets = committed.offsets(topic_partition)
        if topic_partition.topic in changed and len({*offsets}) > 1:
            before = known[topic_partition.topic]
            version = ", which the version of K2 that ran before has," if _BUILT_IN in before else ""
            raise StateError(
                f"{topic_partition} is committed up to offset {min(offsets)} by one writer and {max(offsets)} by "
                f"another, because the job was killed in between; messages there must be decoded as before: start "
                f"once more with {before}{version} until the first commit, then change it"
            )
