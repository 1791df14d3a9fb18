"""All checks, in the order of their report."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from confluent_kafka.admin._metadata import ClusterMetadata

from k2.doctor.broker import Tables, check_broker, check_offsets, check_topic
from k2.doctor.findings import Check, Finding, Shared, ok
from k2.doctor.folders import check_dead_letters, check_warehouse
from k2.doctor.machine import check_clock, check_memory, check_packages, check_python
from k2.doctor.recovery import Start, check_recovery_store
from k2.doctor.schema_registry import check_schema_registry, find_registry
from k2.doctor.tables import Found, check_catalog, check_checkpoints, check_tables
from k2.kafka.config import admin_client
from k2.model.errors import SettingsError
from k2.ops.settings import Settings, read_settings

__all__ = ["all_checks", "read_or_error"]

BROKER_SECONDS_MAX: Final = 30.0
CATALOG_SECONDS_MAX: Final = 30.0
REGISTRY_SECONDS_MAX: Final = 60.0
"""Four attempts of ten seconds, and the waits between them."""
DEPENDENT_SECONDS_MAX: Final = 60.0
"""For checks that first wait for the broker or the catalog."""
LOCAL_SECONDS_MAX: Final = 15.0


def all_checks(settings: Settings | SettingsError, start: Start) -> Sequence[Check]:
    """Return the checks to run side by side; if the settings are invalid, only those that need none."""
    machine = [
        Check("python", check_python, LOCAL_SECONDS_MAX),
        Check("packages", check_packages, LOCAL_SECONDS_MAX),
        Check("clock", check_clock, LOCAL_SECONDS_MAX),
        Check("memory", check_memory, LOCAL_SECONDS_MAX),
    ]
    if isinstance(settings, SettingsError):
        return [Check("settings", _raising(settings), LOCAL_SECONDS_MAX, has_exit_code=True), *machine]
    cluster = Shared[ClusterMetadata]("the state of the broker")
    found, tables = Shared[Found]("the content of the catalog"), Shared[Tables]("the progress of the table")
    resumed = Shared[bool]("whether a start resumes from a recovery store")
    registry = find_registry(settings)
    return [
        Check("settings", lambda: check_settings(settings), LOCAL_SECONDS_MAX, has_exit_code=True),
        *machine,
        Check("broker", lambda: check_broker(settings, cluster), BROKER_SECONDS_MAX, cluster, has_exit_code=True),
        *(
            ()
            if registry is None
            else (
                Check(
                    "schema registry",
                    partial(check_schema_registry, settings, registry),
                    REGISTRY_SECONDS_MAX,
                    has_exit_code=True,
                ),
            )
        ),
        *(
            Check(f"topic {one.topic}", partial(check_topic, settings, one, cluster, tables), DEPENDENT_SECONDS_MAX)
            for one in settings.topics
        ),
        Check("catalog", lambda: check_catalog(settings, found), CATALOG_SECONDS_MAX, found, has_exit_code=True),
        Check("tables", lambda: check_tables(settings, found, tables, resumed), DEPENDENT_SECONDS_MAX, tables),
        Check("progress", lambda: check_offsets(settings, cluster, tables), DEPENDENT_SECONDS_MAX),
        Check("checkpoints", lambda: check_checkpoints(settings, found), DEPENDENT_SECONDS_MAX),
        Check("warehouse", lambda: check_warehouse(settings, found), DEPENDENT_SECONDS_MAX),
        Check("dead letters", lambda: check_dead_letters(settings), LOCAL_SECONDS_MAX),
        Check(
            "recovery store",
            lambda: check_recovery_store(settings, start, found, resumed),
            DEPENDENT_SECONDS_MAX,
            resumed,
        ),
    ]


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Let librdkafka check the Kafka properties; the settings themselves were checked when they were read.

    Raises:
        SettingsError: the file of `K2_KAFKA_CONFIG` cannot be read, or has a property that is not valid.
    """
    admin_client(settings)
    file = f", and librdkafka accepts {settings.kafka_config}" if settings.kafka_config else ""
    yield ok("settings", f"all K2_ variables are valid{file}")


def _raising(error: SettingsError) -> Callable[[], Iterator[Finding]]:
    def check() -> Iterator[Finding]:
        raise error

    return check


def read_or_error() -> Settings | SettingsError:
    """Return the settings, or why they cannot be read."""
    try:
        return read_settings()
    except SettingsError as error:
        return error
