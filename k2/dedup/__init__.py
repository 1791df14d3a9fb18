"""Deduplication by trade id within a window: the specification and its compiled implementation."""
