"""The plan: which requests of venues give what is missing, as few as possible, each with the numbers that it covers."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from k2.fill.forms import forms
from k2.fill.ranges import Range, count
from k2.venues import VENUES
from k2.venues.table_fill import Fill

__all__ = ["PAGES_MAX", "Gap", "NextPage", "Plan", "Request", "Uncovered", "make_plan", "sources"]

_FILE: Final = Path(__file__).with_name("requests.toml")
PAGES_PER_DAY_MAX: Final = 20
"""From more REST requests than this for each day of a gap, the archives of these days are requested instead."""
PAGES_MAX: Final = 10_000
"""More REST requests than this are not sent for one gap."""
SINCE_MARGIN: Final = timedelta(seconds=1)
"""A page by time begins this long before the last stored trade: several trades may have its time."""


class Gap(NamedTuple):
    """A range of missing numbers, and the venue times of the stored trades next to it; None if there is none."""

    exchange: str
    symbol: str
    first: int
    last: int
    start: datetime | None
    end: datetime | None


class NextPage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the request of the next page differs: a parameter, which is in the answer, or counts the pages."""

    parameter: str
    answer: str | None = None
    """Path in the answer; None for a number of pages."""


class _Archive(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    form: str
    address: str
    requests_per_minute: int
    zone_hours: int = 0
    has_checksum: bool = False


class _Rest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    form: str
    address: str
    parameters: dict[str, str]
    pages: Literal["from", "before", "time", "latest"]
    limit: int
    requests_per_minute: int
    weight: int = 1
    next: NextPage | None = None


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a venue gives old trades."""

    exchange: str
    symbols: str = ".*"
    replace: list[tuple[str, str]] = []
    archive: _Archive | None = None
    rest: _Rest | None = None


class _Sources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    venues: list[Source]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as it is sent."""

    exchange: str
    symbol: str
    kind: Literal["archive", "rest"]
    form: str
    method: Literal["GET"] = "GET"
    address: str
    parameters: dict[str, str]
    covers: list[Range]
    """Missing numbers that the answer has, if the venue has them. With `next`, its next pages have the rest."""
    missing: int
    weight: int = 1
    """What the venue counts for the request."""
    requests_per_minute: int
    """At most this many are sent."""
    next: NextPage | None = None
    has_checksum: bool = False
    """Whether the address with `.CHECKSUM` has the file's SHA-256."""
    is_final: bool = True
    """Whether a later answer would be the same."""

    @property
    def url(self) -> str:
        """The address with its parameters."""
        return self.address + (f"?{urlencode(self.parameters)}" if self.parameters else "")


class Uncovered(msgspec.Struct, frozen=True):
    """Missing numbers that no request gives."""

    exchange: str
    symbol: str
    first_sequence: int
    last_sequence: int
    missing: int
    reason: str


class Plan(msgspec.Struct, frozen=True):
    """Requests, by exchange and symbol and ascending, and what they do not cover."""

    made_at: datetime
    requests: list[Request]
    uncovered: list[Uncovered]
    format: int = 1


@cache
def sources() -> Sequence[Source]:
    """Return where venues give old trades, in the order in which they are tried."""
    found = msgspec.toml.decode(_FILE.read_bytes(), type=_Sources).venues
    parts = [part for one in found for part in (one.archive, one.rest) if part]
    assert all(part.form in forms() for part in parts), "a request names a form that does not exist"
    return found


def make_plan(gaps: Iterable[Gap], now: datetime) -> Plan:
    """Return the requests for all gaps.

    A gap is requested from REST, or from the archives of its days if these are complete and REST would take more than
    20 requests a day, or no longer has it. Gaps of one page are one request, and those of one day one archive.
    """
    requests: list[Request] = []
    uncovered: list[Uncovered] = []
    fill_of = cache(VENUES.fill_of)
    for (exchange, symbol), found in groupby(sorted(gaps, key=lambda gap: gap[:4]), key=lambda gap: gap[:2]):
        of_symbol = [*found]
        source = next(
            (one for one in sources() if one.exchange == exchange and re.fullmatch(one.symbols, symbol)), None
        )
        if source is None:
            uncovered += [_uncovered(gap, "no request of this exchange is known") for gap in of_symbol]
            continue
        by_rest, by_archive, left = _divided(source, of_symbol, now, fill_of(exchange))
        uncovered += left
        if source.archive is not None:
            requests += _archive_requests(source, source.archive, by_archive)
        if source.rest is not None:
            requests += _rest_requests(source, source.rest, by_rest, now)
    return Plan(now, requests, uncovered)


def _uncovered(gap: Gap, reason: str) -> Uncovered:
    return Uncovered(gap.exchange, gap.symbol, gap.first, gap.last, gap.last - gap.first + 1, reason)


def _divided(
    source: Source, gaps: Sequence[Gap], now: datetime, fill: Fill | None
) -> tuple[list[Gap], list[Gap], list[Uncovered]]:
    """Decide for each gap whether REST or archives give it."""
    by_rest, by_archive, left = list[Gap](), list[Gap](), list[Uncovered]()
    for gap in gaps:
        reason = _rest_refusal(source.rest, gap, now, None if fill is None else fill.days)
        days = _days(source.archive, gap)
        is_archived = bool(days) and source.archive is not None and days[-1] < _day(source.archive, now)
        is_large = source.rest is not None and gap.last - gap.first >= PAGES_PER_DAY_MAX * source.rest.limit * len(days)
        if is_archived and (reason or is_large):
            by_archive.append(gap)
        elif not reason:
            by_rest.append(gap)
        else:
            waits = f"; the archive of {days[-1]} is not complete yet" if days and not is_archived else ""
            left.append(_uncovered(gap, reason + waits))
    # What an archive that is requested anyway has needs no request of its own.
    requested = {day for gap in by_archive for day in _days(source.archive, gap)}
    alone = list[Gap]()
    for gap in by_rest:
        days = _days(source.archive, gap)
        (by_archive if days and requested.issuperset(days) else alone).append(gap)
    return alone, sorted(by_archive, key=lambda gap: gap[:4]), left


def _rest_refusal(rest: _Rest | None, gap: Gap, now: datetime, days_max: int | None) -> str:
    if rest is None:
        return "the venue has no REST answer for it"
    since = gap.start or gap.end
    if days_max is not None and since is not None and now - since > timedelta(days=days_max):
        return f"the venue gives trades of the last {days_max} days only"
    if (pages := (gap.last - gap.first) // rest.limit + 1) > PAGES_MAX:
        # A number that was named by mistake must not become more requests than memory has room for.
        return f"it would take {pages:,} requests of REST"
    if rest.pages == "time" and gap.start is None:
        return "no trade before it is stored, so its time is not known"
    return ""


def _day(archive: _Archive, at: datetime) -> date:
    return (at.astimezone(UTC) + timedelta(hours=archive.zone_hours)).date()


def _days(archive: _Archive | None, gap: Gap) -> list[date]:
    """Return the days whose archives have a gap; none if its times are not known."""
    if archive is None or (gap.start is None and gap.end is None):
        return []
    times = [one for one in (gap.start, gap.end) if one is not None]
    first, last = _day(archive, times[0]), _day(archive, times[-1])
    return [first + timedelta(days=idx) for idx in range((last - first).days + 1)]


def _archive_requests(source: Source, archive: _Archive, gaps: Sequence[Gap]) -> Iterator[Request]:
    covered: defaultdict[date, list[Range]] = defaultdict(list)
    for gap in gaps:
        for day in _days(archive, gap):
            covered[day].append(Range(gap.first, gap.last))
    for day, ranges in sorted(covered.items()):
        values = {"day": day.isoformat(), "compact_day": f"{day:%Y%m%d}"}
        yield Request(
            exchange=source.exchange,
            symbol=gaps[0].symbol,
            kind="archive",
            form=archive.form,
            address=_filled(source, archive.address, gaps[0].symbol, values, is_path=True),
            parameters={},
            covers=ranges,
            missing=count(ranges),
            requests_per_minute=archive.requests_per_minute,
            has_checksum=archive.has_checksum,
        )


def _rest_requests(source: Source, rest: _Rest, gaps: Sequence[Gap], now: datetime) -> Iterator[Request]:
    is_paged = rest.pages in {"from", "before"}
    for page in _pages(gaps, rest.limit) if is_paged else _groups(gaps, rest):
        start, end = page[0].start, page[-1].end
        values = {"first": str(page[0].first), "last": str(page[-1].last), "before": str(page[-1].last + 1)}
        if rest.pages == "time" and start is not None:
            values |= _times(start, end or now)
        covered = [Range(gap.first, gap.last) for gap in page]
        yield Request(
            exchange=source.exchange,
            symbol=page[0].symbol,
            kind="rest",
            form=rest.form,
            address=_filled(source, rest.address, page[0].symbol, values, is_path=True),
            parameters={name: _filled(source, text, page[0].symbol, values) for name, text in rest.parameters.items()},
            covers=covered,
            missing=count(covered),
            weight=rest.weight,
            requests_per_minute=rest.requests_per_minute,
            next=rest.next,
            is_final=end is not None and (is_paged or rest.pages == "time"),
        )


def _pages(gaps: Sequence[Gap], limit: int) -> Iterator[list[Gap]]:
    """Yield the parts of gaps in each page: `limit` numbers from a missing one on, which no page before it has."""
    page: list[Gap] = []
    done = gaps[0].first - 1 if gaps else 0
    for gap in gaps:
        # Sessions may miss the same numbers: these are requested once.
        while done < gap.last:
            first = max(gap.first, done + 1)
            if page and first >= page[0].first + limit:
                yield page
                page = []
            done = min(gap.last, (page[0].first if page else first) + limit - 1)
            page.append(gap._replace(first=first, last=done))
    if page:
        yield page


def _groups(gaps: Sequence[Gap], rest: _Rest) -> Iterator[list[Gap]]:
    """Yield the gaps that begin within a page of the first of them; a longer one takes several pages."""
    group: list[Gap] = []
    for gap in gaps:
        if group and rest.pages == "time" and gap.first >= group[0].first + rest.limit:
            yield group
            group = []
        group.append(gap)
    if group:
        yield group


def _times(start: datetime, end: datetime) -> dict[str, str]:
    since = int((start - SINCE_MARGIN).timestamp())
    return {"start_s": str(since), "start_ns": f"{since}000000000", "end_s": str(int(end.timestamp()) + 1)}


def _filled(source: Source, text: str, symbol: str, values: Mapping[str, str], *, is_path: bool = False) -> str:
    for old, new in source.replace:
        symbol = symbol.replace(old, new)
    return text.format_map({**values, "symbol": quote(symbol, safe="") if is_path else symbol})
