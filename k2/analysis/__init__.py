"""The Python interface for analysts: `k2.open()` and results as frames."""
