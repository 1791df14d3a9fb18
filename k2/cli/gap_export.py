"""`k2 gaps --export`: what is missing as requests of the venues, to send them by other means."""

import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

import typer

from k2.cli.console import print_json
from k2.fill.open_gaps import open_gaps
from k2.fill.plan import Plan, Request, make_plan
from k2.fill.ranges import count
from k2.model.wording import format_count
from k2.ops.settings import Settings
from k2.query.parameters import AsOf

__all__ = ["PlanFormat", "curl_lines", "export_gaps"]

PlanFormat = Literal["json", "curl"]


def export_gaps(
    settings: Settings, exchange: str | None, symbol: str | None, as_of: AsOf | None, form: PlanFormat
) -> None:
    """Print the plan, and on stderr what it does not cover."""
    gaps = open_gaps(settings, exchange, symbol, as_of)
    plan = make_plan(gaps, datetime.now(UTC))
    if form == "json":
        print_json(plan)
    else:
        for line in curl_lines(plan):
            typer.echo(line)
    # Not of the requests: a gap over midnight is in the archives of both days.
    missing = count((gap.first, gap.last) for gap in gaps) - sum(one.missing for one in plan.uncovered)
    typer.echo(f"{missing:,} missing in {format_count(len(plan.requests), 'request')}", err=True)
    for one in plan.uncovered:
        typer.echo(
            f"{one.exchange} {one.symbol} {one.first_sequence} to {one.last_sequence} are in no request: {one.reason}",
            err=True,
        )


def curl_lines(plan: Plan) -> Iterator[str]:
    """Yield a shell script: for each request what it covers, its download, and its backfill."""
    for request in plan.requests:
        covers = ", ".join(f"{first}-{last}" if first < last else str(first) for first, last in request.covers)
        more = " (and the next pages)" if request.next else ""
        yield f"# {request.exchange} {request.symbol}: {covers}{more}"
        file = file_of(request)
        yield f"curl -fsS --retry 5 -o {shlex.quote(file)} {shlex.quote(request.url)}"
        if request.has_checksum:
            yield f"curl -fsS --retry 5 -o {shlex.quote(file + '.CHECKSUM')} {shlex.quote(request.url + '.CHECKSUM')}"
        symbol = shlex.quote(request.symbol)
        known = f"--form {request.form} --symbol {symbol} --source {shlex.quote(request.url)}"
        yield f"k2 backfill {shlex.quote(file)} {known}"


def file_of(request: Request) -> str:
    """Return a file name for the answer: that of the archive, or one with the first number."""
    if request.kind == "archive":
        return request.address.rpartition("/")[2]
    symbol = re.sub(r"[^\w-]", "-", request.symbol)
    return f"{request.exchange}-{symbol}-{request.covers[0].first}.json"
