"""Bytewax operators: thin adapters around the rules in `k2`."""
