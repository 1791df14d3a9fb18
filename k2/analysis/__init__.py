"""The Python interface for analysts: `k2.open()`, results as frames, and plots."""
