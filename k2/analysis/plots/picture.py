"""Common look of all pictures: size, colours, title, time axis, and the note of an empty one."""

import io
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, ScalarFormatter
from numpy.typing import NDArray

__all__ = [
    "DAY",
    "LINE",
    "MUTED",
    "TEXT",
    "Picture",
    "empty_picture",
    "number_format",
    "plain",
    "set_time_axis",
    "short_name",
    "to_days",
]

WIDTH_INCHES: Final = 11.0
HEIGHT_INCHES: Final = 6.0
DOTS_PER_INCH: Final = 144
TEXT: Final = "#18212c"
MUTED: Final = "#556170"
LINE: Final = "#d9dfe6"
DAY: Final = timedelta(days=1)
"""The unit of an axis of time."""
NAME_CHARACTERS_MAX: Final = 32
_PLAIN_MAX: Final = 1e5
"""From here on numbers of an axis are shown with k, M or G."""
_STYLE: Final[dict[str, Any]] = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "font.size": 9,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": TEXT,
    "svg.hashsalt": "k2",
    "text.color": TEXT,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}
LOOK: Final = partial(style.context, ["default", _STYLE])
"""Context, or decorator, in which pictures look the same whatever the user's own style is."""


class Picture(Figure):
    """A matplotlib figure. Notebooks show it by themselves; `savefig` writes it to a file."""

    def __init__(
        self, title: str, subtitle: str, heights: Sequence[float] = (1,), inches: float = HEIGHT_INCHES
    ) -> None:
        """Make a figure with a title, and axes one below the other that share the time; `inches` is its height."""
        super().__init__(figsize=(WIDTH_INCHES, inches), dpi=DOTS_PER_INCH, layout="constrained")
        self.suptitle(plain(title), x=0.012, ha="left", fontsize=13, fontweight="bold")
        grid = self.add_gridspec(len(heights), 1, height_ratios=heights)
        self.panels: list[Axes] = []
        for row in range(len(heights)):
            shared = self.panels[0] if self.panels else None
            self.panels.append(self.add_subplot(grid[row, 0], sharex=shared))
        self.title = title
        self.note: str | None = None
        """Why nothing is drawn; None if something is."""
        self.panels[0].set_title(plain(subtitle))

    def write(self, stream: BinaryIO, form: Literal["png", "svg"]) -> None:
        """Write the picture, without the time and the program; the same rows give the same bytes."""
        with LOOK():
            self.savefig(stream, format=form, metadata={"Date": None} if form == "svg" else {"Software": None})

    def draw(self, renderer: RendererBase) -> None:
        """Draw the figure; names may have any characters, and one that the font lacks is drawn as a box."""
        with warnings.catch_warnings(), LOOK():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.write(stream, "png")
        return stream.getvalue()


@LOOK()
def empty_picture(title: str, note: str) -> Picture:
    """Return a picture that says why there is nothing to draw."""
    picture = Picture(title, "", inches=2.5)
    picture.note = note
    (axes,) = picture.panels
    axes.set_axis_off()
    axes.text(0.5, 0.5, plain(note), ha="center", va="center", fontsize=11, color=MUTED, transform=axes.transAxes)
    return picture


def plain(text: str) -> str:
    r"""Return a text from a message as matplotlib shows it literally: no formula, no control characters.

    >>> plain("US$T")
    'US\\$T'
    """
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return shown.replace("$", r"\$")


def short_name(exchange: str, symbol: str) -> str:
    """Return the label of a symbol. A long one keeps begin and end, since contracts often differ only in their end."""
    name = f"{exchange} {symbol}"
    half = NAME_CHARACTERS_MAX // 2
    return plain(name if len(name) <= NAME_CHARACTERS_MAX else f"{name[: half - 1]}…{name[-half:]}")


def set_time_axis(axes: Axes, first: datetime, until: datetime) -> None:
    """Show the times from `first` to `until`, in UTC."""
    locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.set_xlim(*to_days([first, until]))
    axes.set_xlabel("time (UTC)")


def to_days(times: Sequence[datetime] | NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return times as matplotlib counts them: in days since 1970."""
    days: NDArray[np.float64] = date2num(times)  # type: ignore[no-untyped-call]
    return days


def number_format(largest: float) -> Formatter:
    """Return the format of an axis with numbers up to `largest`: all digits, or k, M and G for large ones."""
    if largest >= _PLAIN_MAX:
        return EngFormatter(sep=" ")
    formatter = ScalarFormatter(useOffset=False)
    formatter.set_scientific(False)
    return formatter
