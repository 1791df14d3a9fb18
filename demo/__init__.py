"""The demo: a market with known faults, captured by the real job, and what was found of them."""

from demo.command import demo

__all__ = ["demo"]
