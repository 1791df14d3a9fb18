"""Checks of the schema registry, and of what the schemas of a topic mean for exact prices."""

from collections.abc import Iterator, Sequence

from k2.doctor.findings import Finding, failed, ok, warning
from k2.kafka.schema_registry import SchemaRegistry, open_schema_registry, schema_topics
from k2.model.errors import SettingsError
from k2.model.reasons import RejectedError
from k2.model.wording import format_count
from k2.ops.settings import Settings
from k2.venues import VENUES
from k2.venues.table import VenueTable
from k2.venues.table_paths import place
from k2.venues.wire_format import SCHEMAS, schema_id_of

__all__ = ["check_schema_registry", "find_registry", "schema_fits"]

CHECK = "schema registry"


def find_registry(settings: Settings) -> SchemaRegistry | SettingsError | None:
    """Return the registry, which the venues of this process use from now on; an error, or None if none is needed."""
    try:
        return open_schema_registry(settings)
    except SettingsError as error:
        return error


def check_schema_registry(settings: Settings, registry: SchemaRegistry | SettingsError) -> Iterator[Finding]:
    """Ask the registry for the kinds of schemas that it has.

    Raises:
        UnreachableError: it does not answer.
        SettingsError: its settings are not valid, or it refuses the credentials.
    """
    if isinstance(registry, SettingsError):
        raise registry
    registry.check()
    yield ok(CHECK, f"the registry answers, for {format_count(len(schema_topics(settings)), 'topic')}")


def schema_fits(topic: str, venue: str, values: Sequence[bytes]) -> Iterator[Finding]:
    """Yield what the schemas of messages say of price and quantity; nothing for a venue without schemas.

    A binary float is read as its shortest decimal, which is the price only if the producer had it from there.
    """
    payload, table = VENUES[venue].payload, VENUES.table_of(venue)
    if payload is None or payload.schema_kind is None or table is None:
        return
    check = f"topic {topic} schema"
    found = sorted({number for value in values if (number := schema_id_of(value)) is not None})
    for schema_id in found:
        try:
            floats = SCHEMAS.reader(payload.schema_kind, schema_id).floats
        except RejectedError as error:
            yield failed(check, f"{error.error.removeprefix('value: ')}; register it, or correct the producer")
            continue
        inexact = [path for path in _exact_paths(table) if path in floats]
        if inexact:
            yield warning(
                check,
                f"schema {schema_id} has {' and '.join(inexact)} as a binary float, which is read as its shortest "
                "decimal; use a decimal or text in the schema",
            )
        else:
            yield ok(check, f"schema {schema_id} has exact prices and quantities")


def _exact_paths(table: VenueTable) -> Iterator[str]:
    """Yield the paths of price and quantity in each form of messages."""
    for field in (table.price, table.quantity):
        if field.path.startswith("$"):
            yield field.path.removeprefix("$").removeprefix(".")
        else:
            lists = [form.trades.removeprefix("$").removeprefix(".") for form in table.messages]
            yield from dict.fromkeys(place(one, field.path) for one in lists)
