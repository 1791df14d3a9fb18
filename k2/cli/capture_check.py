"""Check of the first lines of a capture before any is published: they are decoded as the job will decode them."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from k2.cli.captures import capture_name
from k2.model.errors import SettingsError, error_pattern
from k2.ops.settings import Settings
from k2.venues.samples import decode_sample, fitting_venue

__all__ = ["LINES_CHECKED", "FirstLines", "PlacedLine", "check_first_lines"]

LINES_CHECKED: Final = 200
BYTES_HELD_MAX: Final = 64 * 1024 * 1024
"""Bytes of the lines that are held back; the check then has fewer lines."""
SECONDS_HELD_MAX: Final = 5.0
"""Time for which a slow stream is held back; the check then has fewer lines."""


class PlacedLine(NamedTuple):
    """A line, and where it is."""

    file: str
    number: int
    value: bytes

    @property
    def place(self) -> str:
        """The place of the line, for a message."""
        return f"line {self.number:,} of {capture_name(self.file)}"


class FirstLines:
    """Hold back the first lines of a stream until they are checked, then pass on each line as it comes."""

    def __init__(
        self,
        check: Callable[[Sequence[PlacedLine]], None] | None,
        publish: Callable[[PlacedLine], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Call `check` once, with at most 200 lines, before the first call of `publish`; None holds nothing back."""
        self._check = check
        self._publish = publish
        self._clock = clock
        self._held: list[PlacedLine] = []
        self._bytes = 0
        self._since = 0.0
        self._is_checked = check is None

    def add(self, line: PlacedLine) -> None:
        """Take the next line of the stream."""
        if self._is_checked:
            self._publish(line)
            return
        if not self._held:
            self._since = self._clock()
        self._held.append(line)
        self._bytes += len(line.value)
        if (
            len(self._held) >= LINES_CHECKED
            or self._bytes >= BYTES_HELD_MAX
            or self._clock() - self._since >= SECONDS_HELD_MAX
        ):
            self.release()

    def release(self) -> None:
        """Check the lines that are held back, and publish them; without any, go on waiting for the first."""
        if not self._held or self._check is None:
            return
        held, self._held = self._held, []
        self._check(held)
        self._is_checked = True
        for line in held:
            self._publish(line)


def check_first_lines(settings: Settings, topic: str, venue: str, lines: Sequence[PlacedLine]) -> None:
    """Raise if the job would reject more than half of the lines, decoded by a venue as of now.

    Raises:
        SettingsError: it would; the message has the share, the commonest reason and an example.
    """
    values = [line.value for line in lines]
    decoded = decode_sample(topic, venue, values, settings.time_ahead_seconds_max)
    if 2 * len(decoded.rejected) <= len(lines):
        return
    causes = Counter((error.reason, error_pattern(error.error)) for _, error in decoded.rejected)
    commonest = causes.most_common(1)[0][0]
    line_idx, example = next(
        (line_idx, error)
        for line_idx, error in decoded.rejected
        if (error.reason, error_pattern(error.error)) == commonest
    )
    raise SettingsError(
        f"venue {venue} of topic {topic} would reject {len(decoded.rejected):,} of the first {len(lines):,} lines "
        f"({100 * len(decoded.rejected) // len(lines)} %), most often as {example.reason} "
        f"({lines[line_idx].place}: {example.error}); nothing was published: {_way_on(settings, topic, venue, values)}"
    )


def _way_on(settings: Settings, topic: str, venue: str, values: Sequence[bytes]) -> str:
    fitting = fitting_venue(topic, venue, values, settings.time_ahead_seconds_max)
    remedy = f"configure {topic}={fitting}, which fits these lines," if fitting else "correct the lines or their venue"
    return f"{remedy} in K2_TOPICS, or use --force to publish anyway"
