"""`k2 recovery skip` and `roll-forward`: repairs for cases in which the job refuses to start."""

from typing import Annotated, Final

import typer

from k2.cli.console import Json, print_record
from k2.iceberg.abandon_offsets import abandon_offsets
from k2.iceberg.commit import Committer
from k2.iceberg.snapshot_lineage import roll_forward as roll_table_forward
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName
from k2.kafka.client import KafkaClient, topic_partitions
from k2.kafka.config import bootstrap_servers
from k2.model.errors import SettingsError
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings, read_settings
from k2.query.tables import no_table_error
from k2.storage.catalog import find_table

__all__ = ["roll_forward", "skip"]

OFFSET_MAX: Final = 2**63 - 1


def skip(
    partition: Annotated[
        str, typer.Argument(metavar="TOPIC:PARTITION", help="Topic and partition, as in the job's message.")
    ],
    *,
    to: Annotated[
        int | None,
        typer.Option(
            min=1, max=OFFSET_MAX, help="Set the next offset to read; by default the first that the broker has."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm: the skipped messages never reach the table.")] = False,
    as_json: Json = False,
) -> None:
    """Give up messages that cannot be read any more.

    They expired unread, were cut from the log, or are corrupt. Stop the job first. The table's progress moves past
    them; the commit log records the range. If --to is the offset that is to be read next, nothing is given up: the
    next start accepts the log as it is, without a comparison.
    """
    settings = read_settings()
    skipped = _parse_partition(settings, partition)
    committer = _open_committer(settings, TableName.TRADES)
    offset = _resolve_offset(settings, skipped, to)
    if not yes:
        raise SettingsError(
            f"skipping {skipped} to offset {offset} abandons all earlier messages that are not in the table; "
            "confirm with --yes"
        )
    first = abandon_offsets(committer, skipped, offset, settings.writers)
    if first == offset:
        print_record({"partition": str(skipped), "accepted_from": offset}, as_json=as_json)
    else:
        print_record({"partition": str(skipped), "given_up_first": first, "given_up_last": offset - 1}, as_json=as_json)


def roll_forward(*, as_json: Json = False) -> None:
    """Undo a rollback of the job's tables.

    The job's last commit becomes the current snapshot again.
    """
    settings = read_settings()
    done = {
        str(which): _open_committer(settings, which).change("rolling the table forward", roll_table_forward)
        for which in TableName
        # The job makes this table with the first correction.
        if which is not TableName.CORRECTIONS or find_table(settings, which) is not None
    }
    print_record(done, as_json=as_json)
    if not any(done.values()) and not as_json:
        typer.echo("k2: nothing to do: no table is rolled back past the job's last commit", err=True)


def _open_committer(settings: Settings, which: TableName) -> Committer:
    """Return a committer of an existing table; never create the table."""
    if find_table(settings, which) is None:
        raise no_table_error(settings, which)
    return TableHandle(settings, which, None).committer()


def _parse_partition(settings: Settings, text: str) -> TopicPartition:
    """Parse a partition of a topic that the job reads; no other topic has progress in the table."""
    topic, _, number = text.rpartition(":")
    if not topic or not (number.isascii() and number.isdecimal()):
        raise SettingsError(f"invalid partition: {text!r}; use TOPIC:PARTITION, such as trades:0")
    if topic not in dict(settings.topics):
        raise SettingsError(f"topic is not in K2_TOPICS: {topic!r}; the job does not read it")
    return TopicPartition(topic, int(number))


def _resolve_offset(settings: Settings, partition: TopicPartition, to: int | None) -> int:
    """Return the next offset to read: `to`, or the first that the broker has; never past the partition's end."""
    if partition not in topic_partitions(settings):
        raise SettingsError(
            f"unknown partition: {partition}; the brokers at {bootstrap_servers(settings)} do not have it"
        )
    client = KafkaClient(settings)
    if to is None:
        return client.low_watermarks([partition])[partition]
    end = client.high_watermarks([partition])[partition]
    if to > end:
        raise SettingsError(
            f"--to {to}: {partition} ends at offset {end}; use at most that, so that no future message is abandoned"
        )
    return to
