"""The metrics' names and labels are an interface: dashboards and alerts depend on them."""

from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

import k2.ops.metrics


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("k2_messages_received_total", []),
        ("k2_trades_stored_total", []),
        ("k2_duplicates_dropped_total", []),
        ("k2_messages_skipped_total", ["reason"]),
        ("k2_dead_letters_total", ["reason"]),
        ("k2_trades_dated_ahead_total", ["exchange"]),
        ("k2_venue_skew_seconds", ["venue"]),
        ("k2_venue_drift_total", ["venue", "change"]),
        ("k2_silent_symbols", ["exchange"]),
        ("k2_exchange_silent", ["exchange"]),
        ("k2_sequence_gaps_detected_total", ["exchange", "size"]),
        ("k2_sequence_gaps_filled_total", ["exchange"]),
        ("k2_sequence_resets_detected_total", ["exchange"]),
        ("k2_sequence_out_of_order_total", ["exchange"]),
        ("k2_open_gaps", ["exchange"]),
        ("k2_missing_numbers", ["exchange"]),
        ("k2_restarts", []),
        ("k2_dedup_ids", []),
        ("k2_consumer_lag_messages", ["topic", "partition"]),
        ("k2_unread_partitions", ["topic"]),
        ("k2_commit_seconds", []),
        ("k2_commits_total", ["result"]),
        ("k2_last_commit_timestamp_seconds", []),
        ("k2_last_epoch_timestamp_seconds", []),
        ("k2_retries_total", ["operation"]),
        ("k2_freshness_seconds", []),
        ("k2_stalled_seconds", []),
        ("k2_stall_seconds_max", []),
        ("k2_checkpoint_timestamp_seconds", ["writer"]),
        ("k2_state_rebuilt", []),
        ("k2_processes", []),
        ("k2_dead_letter_disk_bytes", []),
        ("k2_dead_letter_disk_free_bytes", []),
        ("k2_queries_total", ["result"]),
    ],
)
def test_metrics_are_declared(name: str, labels: list[str]) -> None:
    """Each exists with exactly its labels."""
    declared = _declared()
    assert name in declared
    assert list(declared[name]._labelnames) == labels


def test_no_metric_has_a_symbol_label() -> None:
    """10,000 symbols must not make 10,000 series."""
    assert all("symbol" not in metric._labelnames for metric in _declared().values())


def test_the_documentation_lists_every_metric() -> None:
    """The table of metrics in docs/operations.md has each with its labels and its help, in no particular order."""
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    documented = {line for line in text.splitlines() if line.startswith("| `k2_")}
    assert documented == {
        f"| `{name}` | {', '.join(f'`{label}`' for label in metric._labelnames)} | {metric._documentation} |"
        for name, metric in _declared().items()
    }


def _declared() -> dict[str, Counter | Gauge | Histogram]:
    found = {}
    for name in filter(str.isupper, k2.ops.metrics.__all__):
        metric = getattr(k2.ops.metrics, name)
        found[metric._name + "_total" if isinstance(metric, Counter) else metric._name] = metric
        assert REGISTRY._names_to_collectors[metric._name] is metric
    return found
