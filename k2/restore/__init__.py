"""Rebuild the state of the rules from the tables and the recovery store at a start."""
