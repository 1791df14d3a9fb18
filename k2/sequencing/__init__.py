"""Sequence tracking: detects missing, late, duplicate and conflicting sequence numbers by symbol."""
