"""Trades as columns, and what all rules share: decimals, times, symbols, progress, errors."""
