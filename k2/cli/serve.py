"""`k2 serve`: run the HTTP API."""

from typing import Annotated

import typer

from k2.cli.console import Json, print_json
from k2.cli.options import parse_name
from k2.http.server import listen, take_signals, url_of
from k2.http.server import serve as serve_api
from k2.ops.settings import read_settings

__all__ = ["serve"]


def serve(
    *,
    host: Annotated[str, typer.Option(parser=parse_name, help="Listen on this address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Listen on this port; 0 selects a free one.")] = 8080,
    as_json: Json = False,
) -> None:
    """Serve queries and reports over HTTP until SIGTERM or Ctrl-C.

    Without K2_API_KEYS, only requests from this machine are served.
    """
    settings = read_settings()
    with listen(settings, host, port) as listener:
        # Once the address is printed, another process may end the server.
        take_signals()
        url = url_of(listener)
        if as_json:
            print_json({"url": url, "description": f"{url}/openapi.json"})
        typer.echo(f"listening on {url}; API description: {url}/openapi.json", err=True)
        serve_api(settings, listener)
