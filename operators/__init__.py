"""Thin Bytewax logic around the pure rules."""
