"""The HTTP API: what `k2` says of the tables, for programs."""
