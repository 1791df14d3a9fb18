"""Whether the log still has the message that was read last: so a log that was cut and has grown again is noticed.

The offsets of such a log exist, so that reading could go on in silence, without the messages that took the place of
those that were cut.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as KafkaTopicPartition

from k2.kafka.first_answers import first_answers
from k2.kafka.reader import is_truncation, to_batch, to_columns
from k2.model.errors import OffsetError, UnreachableError
from k2.model.last_message import LastMessage
from k2.model.progress import PartitionProgress, TopicPartition

__all__ = ["Reread", "check_last_message", "read_again"]

ANSWER_SECONDS_MAX: Final = 10.0
FETCH_BYTES: Final = 65_536

_LOG: Final = structlog.get_logger()
_NO_MESSAGE: Final = (
    KafkaError._PARTITION_EOF,  # noqa: SLF001  confluent-kafka exports it under this name
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001  as above
    KafkaError._BAD_MSG,  # noqa: SLF001  as above
    KafkaError._BAD_COMPRESSION,  # noqa: SLF001  as above
    KafkaError.OFFSET_OUT_OF_RANGE,
)
"""There is no message to read at the offset (any more)."""


class Reread(NamedTuple):
    """What the broker has now where a partition's last message was read."""

    message: LastMessage | None = None
    """The message at that offset; None if there is none."""
    next_offset: int | None = None
    """Offset of the first message after it; None if there is none, or if nobody asked."""
    truncation: str | None = None
    """What the broker says of the message's leader epoch if the log ends below the message in that epoch."""
    is_epoch_checked: bool = False
    """Whether the broker compared the leader epoch; false if the message has none, or no answer came in time."""


def read_again(
    config: Mapping[str, Any], entries: Mapping[TopicPartition, PartitionProgress], lows: Mapping[TopicPartition, int]
) -> dict[TopicPartition, Reread]:
    """Read the last message of each entry once more, and have the broker compare its leader epoch.

    `config` is that of a consumer, `lows` are the first offsets that the broker has. librdkafka has the epoch compared
    by a seek, but not by an assignment whose metadata is known. It repeats a comparison that fails for ever, so one
    without an answer in `ANSWER_SECONDS_MAX` is given up, and not counted as compared.

    Raises:
        UnreachableError: no broker returns a message in time, or a partition cannot be read.
    """
    lasts = {where: entry.last_message for where, entry in entries.items() if entry.last_message is not None}
    if not lasts:
        return {}
    quick = {"fetch.wait.max.ms": 5, "fetch.message.max.bytes": FETCH_BYTES, "queued.min.messages": 1}
    consumer = Consumer({**config, **quick})
    try:
        consumer.assign([_at(where, max(last.offset, lows[where])) for where, last in lasts.items()])
        found = _read_messages(consumer, lasts)
        # Without an epoch, what follows matters only if offsets without a message were read after the last message.
        after = {where for where, last in lasts.items() if _is_asked(last, entries[where])}
        for where in sorted(after):
            _seek_behind(consumer, where, lasts[where])
        return {**found, **_read_behind(consumer, {where: lasts[where] for where in after}, found)}
    finally:
        consumer.close()


def _is_asked(last: LastMessage, entry: PartitionProgress) -> bool:
    return last.leader_epoch is not None or entry.offset > last.offset + 1


def _read_messages(consumer: Consumer, lasts: Mapping[TopicPartition, LastMessage]) -> dict[TopicPartition, Reread]:
    found = {
        where: Reread(_message_at(where, lasts[where].offset, message))
        for where, message in first_answers(consumer, lasts, ANSWER_SECONDS_MAX)
    }
    waiting = min((where for where in lasts if where not in found), default=None)
    if waiting is not None:
        raise UnreachableError(
            f"the message at offset {lasts[waiting].offset} of {waiting} does not arrive within "
            f"{ANSWER_SECONDS_MAX:.0f} s"
        )
    return found


def _message_at(where: TopicPartition, offset: int, message: Message) -> LastMessage | None:
    error = message.error()
    if error is not None and error.code() not in _NO_MESSAGE:
        raise UnreachableError(f"{where} cannot be read: {error.str()}")
    if error is not None or message.offset() != offset:
        return None
    return to_batch(where, "", offset, to_columns([message])).last_message()


def _seek_behind(consumer: Consumer, where: TopicPartition, last: LastMessage) -> None:
    try:
        consumer.seek(_at(where, last.offset + 1, last.leader_epoch))
    except KafkaException as error:
        _LOG.debug("seek_failed", partition=str(where), error=error.args[0].str())


def _read_behind(
    consumer: Consumer, lasts: Mapping[TopicPartition, LastMessage], found: Mapping[TopicPartition, Reread]
) -> dict[TopicPartition, Reread]:
    return {
        where: _behind(found[where], message, is_epoch_checked=lasts[where].leader_epoch is not None)
        for where, message in first_answers(consumer, lasts, ANSWER_SECONDS_MAX)
    }


def _behind(found: Reread, message: Message, *, is_epoch_checked: bool) -> Reread:
    error = message.error()
    if error is None:
        return found._replace(next_offset=message.offset(), is_epoch_checked=is_epoch_checked)
    truncation = error.str() if is_truncation(error.code(), error.str()) else None
    return found._replace(truncation=truncation, is_epoch_checked=is_epoch_checked)


def _at(where: TopicPartition, offset: int, leader_epoch: int | None = None) -> KafkaTopicPartition:
    return KafkaTopicPartition(
        where.topic, where.partition, offset, leader_epoch=-1 if leader_epoch is None else leader_epoch
    )


def check_last_message(where: TopicPartition, entry: PartitionProgress, reread: Reread) -> None:
    """Compare what the broker has now with the last message of a partition's progress.

    If the message is gone (expired, or compacted), its leader epoch decides; the log says so.

    Raises:
        OffsetError: the log was cut below `entry.offset` since it was read, and has grown again.
    """
    last, now = entry.last_message, reread.message
    assert last is not None, f"{where}: nothing to compare"
    if reread.truncation is not None:
        what = f"its log ends below offset {last.offset + 1} in leader epoch {last.leader_epoch} ({reread.truncation})"
        raise _truncation_error(where, entry.offset, what)
    if now is not None and now.hash != last.hash:
        raise _truncation_error(
            where,
            entry.offset,
            f"the message at offset {last.offset} is not the one that was read there (its hash is {now.hash}, it was "
            f"{last.hash})",
        )
    if reread.next_offset is not None and reread.next_offset < entry.offset:
        what = f"offset {reread.next_offset} has a message now, and had none when it was read"
        raise _truncation_error(where, entry.offset, what)
    if last.leader_epoch is not None and not reread.is_epoch_checked:
        _LOG.warning(
            "leader_epoch_not_checked",
            partition=str(where),
            leader_epoch=last.leader_epoch,
            seconds=ANSWER_SECONDS_MAX,
            effect="only the last message itself was compared",
        )
    if now is None:
        _LOG.warning(
            "last_message_gone",
            partition=str(where),
            offset=last.offset,
            compared="its leader epoch" if reread.is_epoch_checked else "nothing",
            effect="the message expired or was compacted, so it cannot show whether the log was cut",
        )


def _truncation_error(where: TopicPartition, offset: int, what: str) -> OffsetError:
    """Return the error for a log that was cut below the offset that is to be read next; `what` shows it."""
    return OffsetError(
        f"{where}: {what}: the log was cut below offset {offset} and has grown again, so messages before "
        f"that offset were never read; accept that with `k2 recovery skip {where} --to {offset} --yes` and "
        "publish them again, or set another topic in K2_TOPICS, or another K2_NAMESPACE, to read all that the topic "
        "has now"
    )
