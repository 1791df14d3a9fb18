"""`k2 recovery skip` and `roll-forward`: the ways on where the job refuses to go on by itself."""

from typing import Annotated, Final

import typer

from k2.cli.console import Json, show_record
from k2.iceberg.abandon_offsets import give_up
from k2.iceberg.catalog import find_table
from k2.iceberg.commit import Committer
from k2.iceberg.snapshot_lineage import roll_forward as roll_table_forward
from k2.iceberg.table_handle import TableHandle
from k2.iceberg.tables import TableName
from k2.kafka.client import KafkaClient, topic_partitions
from k2.kafka.config import bootstrap_servers
from k2.model.errors import SettingsError
from k2.model.progress import TopicPartition
from k2.ops.settings import Settings, read_settings
from k2.query.tables import no_table

__all__ = ["roll_forward", "skip"]

OFFSET_MAX: Final = 2**63 - 1


def skip(
    partition: Annotated[str, typer.Argument(metavar="TOPIC:PARTITION", help="As the job names it.")],
    *,
    to: Annotated[
        int | None,
        typer.Option(min=1, max=OFFSET_MAX, help="First offset to read; else the first that the broker holds."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: those messages are lost to the table for good.")] = False,
    as_json: Json = False,
) -> None:
    """Give up messages that expired unread: move the table's progress over them. Stop the job first."""
    settings = read_settings()
    where = _partition(settings, partition)
    committer = _committer(settings, TableName.TRADES)
    offset = _offset(settings, where, to)
    if not yes:
        raise SettingsError(f"{where}: all before offset {offset} that is not in the table is lost then; say --yes")
    first = give_up(committer, where, offset, settings.writers)
    show_record({"partition": str(where), "given_up_first": first, "given_up_last": offset - 1}, as_json=as_json)


def roll_forward(*, as_json: Json = False) -> None:
    """Take a rollback of the job's tables back: make the job's last commit the current one again."""
    settings = read_settings()
    done = {
        str(which): _committer(settings, which).change("rolling the table forward", roll_table_forward)
        for which in TableName
    }
    show_record(done, as_json=as_json)
    if not any(done.values()) and not as_json:
        typer.echo("k2: no table was rolled back behind the job's last commit", err=True)


def _committer(settings: Settings, which: TableName) -> Committer:
    """Open a table; none is made."""
    if find_table(settings, which) is None:
        raise no_table(settings, which)
    return TableHandle(settings, which, None).committer()


def _partition(settings: Settings, text: str) -> TopicPartition:
    """Read a partition of a topic that the job reads: progress of another one would be nobody's."""
    topic, _, number = text.rpartition(":")
    if not topic or not (number.isascii() and number.isdecimal()):
        raise SettingsError(f"{text!r} is no partition; give it as TOPIC:PARTITION, such as trades:0")
    if topic not in dict(settings.topics):
        raise SettingsError(f"K2_TOPICS does not name topic {topic!r}, so the job does not read it")
    return TopicPartition(topic, int(number))


def _offset(settings: Settings, where: TopicPartition, to: int | None) -> int:
    """Return the offset to go on at, which lies within what the broker holds."""
    if where not in topic_partitions(settings):
        raise SettingsError(f"there is no partition {where} at {bootstrap_servers(settings)}")
    client = KafkaClient(settings)
    if to is None:
        return client.lows([where])[where]
    end = client.ends([where])[where]
    if to > end:
        raise SettingsError(f"--to {to}: {where} ends at offset {end}, so messages yet to come would be given up")
    return to
