"""CPU microseconds per message of each stage: `python -m benchmarks.stages [--rounds N] [--svg FILE]`.

The stages are those whose instructions `benchmarks.instructions` counts, on a market with few faults, without a broker.
Shown are the medians of the rounds. `--svg` draws them.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from benchmarks.bars import Bar, draw_bars, inches_of
from benchmarks.callgrind import Counter
from benchmarks.counted_market import INPUTS, MIXED
from benchmarks.counted_stages import Stages, count_job
from k2.analysis.plots.picture import LOOK, Picture
from k2.ops.logs import set_up_logs

POLLS: Final = 10
COLOR: Final = "#17805a"
JOB: Final = "job"


class Clock(Counter):
    """Measures CPU time in place of instructions."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        """By stage, of each round."""
        self._begun = 0.0

    def begin(self) -> None:
        """Begin to measure."""
        self._begun = time.process_time()

    def end(self, stage: str) -> None:
        """Note the time of a stage, which has ended."""
        self.seconds[stage].append(time.process_time() - self._begun)


def main() -> None:
    """Run the stages round by round, print the medians, and draw them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--svg", type=Path, help="file of the picture")
    chosen = parser.parse_args()
    set_up_logs("error")
    market = INPUTS[MIXED]._replace(polls=POLLS)
    batches, clock = market.batches(), Clock()
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory() as folder:
            Stages(clock, "stages", Path(folder, "stages")).count(batches)
            count_job(clock, "whole", batches, Path(folder, "job"))
    medians = {
        stage.partition(": ")[2]: statistics.median(times) * 1e6 / market.messages
        for stage, times in clock.seconds.items()
    }
    for stage, micros in medians.items():
        print(f"{stage:<12} {micros:.3f} us of CPU per message")
    if chosen.svg is not None:
        draw(medians, market.messages, chosen.svg)


def draw(medians: dict[str, float], messages: int, path: Path) -> None:
    """Write the stages as bars, the dearest first, to an SVG file."""
    stages = sorted((one for one in medians if one != JOB), key=lambda one: -medians[one])
    with LOOK():
        picture = Picture(
            "CPU time per message by stage",
            f"{messages:,} trades of 200 bytes; the whole job, without reading: {medians[JOB]:.2f} µs",
            inches=inches_of(len(stages)),
        )
        (axes,) = picture.panels
        draw_bars(axes, [Bar(stage, medians[stage], f"{medians[stage]:.2f} µs", COLOR) for stage in stages])
        axes.set_xlabel("CPU µs per message")
        with path.open("wb") as stream:
            picture.write(stream, "svg")


if __name__ == "__main__":
    main()
