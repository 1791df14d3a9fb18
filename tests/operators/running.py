"""Run an operator in a dataflow of its own."""

from collections.abc import Callable, Sequence
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.testing import TestingSink, TestingSource, run_main

__all__ = ["run"]


def run(connect: Callable[..., Sequence[Stream[Any]]], *inputs: Sequence[Any]) -> list[list[Any]]:
    """Return the items of each stream that `connect` makes of the input streams, after all items have passed."""
    flow = Dataflow("flow")
    streams = connect(*(op.input(f"in_{number}", flow, TestingSource(items)) for number, items in enumerate(inputs)))
    found: list[list[Any]] = [[] for _ in streams]
    for number, (stream, items) in enumerate(zip(streams, found, strict=True)):
        op.output(f"out_{number}", stream, TestingSink(items))
    run_main(flow)
    return found
