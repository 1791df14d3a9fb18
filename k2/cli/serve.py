"""`k2 serve`: the HTTP API."""

from typing import Annotated

import typer

from k2.cli.console import Json, say_json
from k2.cli.options import given_text
from k2.http.server import listen, take_signals, url_of
from k2.http.server import serve as serve_api
from k2.ops.settings import read_settings

__all__ = ["serve"]


def serve(
    *,
    host: Annotated[str, typer.Option(parser=given_text, help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 8080,
    as_json: Json = False,
) -> None:
    """Serve the queries and reports over HTTP, until SIGTERM or Ctrl-C.

    Without K2_API_KEYS this machine alone is served.
    """
    settings = read_settings()
    with listen(settings, host, port) as listener:
        # Who is told the address may end it from then on.
        take_signals()
        url = url_of(listener)
        if as_json:
            say_json({"url": url, "description": f"{url}/openapi.json"})
        typer.echo(f"listening on {url}, described at {url}/openapi.json", err=True)
        serve_api(settings, listener)
