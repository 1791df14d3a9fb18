"""Demo: the real job captures a market with known faults, and the result is compared with what was injected."""

from demo.command import demo

__all__ = ["demo"]
