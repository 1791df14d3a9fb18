"""Deduplication by trade id within a window: the plain form and the compiled one."""
