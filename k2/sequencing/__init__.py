"""Sequence tracking: which numbers of a symbol are there, missing, late, doubled or in conflict."""
