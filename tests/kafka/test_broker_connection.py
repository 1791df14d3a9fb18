"""The connection to the brokers: one line when it is lost, one when it is back, and not ready in between."""

import structlog

from k2.kafka.broker_connection import BrokerConnection
from k2.ops.health import Health


def test_losses_and_returns_are_logged_once() -> None:
    """Repeated reports of a loss, and answers while all is well, say nothing."""
    times = iter([10.0, 71.26, 100.0, 101.0])
    health = Health()
    health.opened("trades:0")
    health.epoch_closed("trades:0")
    connection = BrokerConnection(health, clock=lambda: next(times))
    with structlog.testing.capture_logs() as logs:
        connection.answered()
        assert (connection.is_lost, health.is_ready) == (False, True)
        connection.lost("1/1 brokers are down")
        connection.lost("1/1 brokers are down")
        assert (connection.is_lost, health.is_ready) == (True, False)
        connection.answered()
        connection.answered()
        assert (connection.is_lost, health.is_ready) == (False, True)
        connection.lost("again")
    assert [(entry["event"], entry.get("error"), entry.get("seconds")) for entry in logs] == [
        ("broker_lost", "1/1 brokers are down", None),
        ("broker_back", None, 61.3),
        ("broker_lost", "again", None),
    ]
