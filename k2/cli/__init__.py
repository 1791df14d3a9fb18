"""The `k2` command."""
