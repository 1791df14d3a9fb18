"""The dead-letter sink: messages set aside, as lines of JSON in files."""

from connectors.dead_letters.sink import DeadLettersSink

__all__ = ["DeadLettersSink"]
