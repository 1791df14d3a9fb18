"""The recovery store: read, locked, made, backed up and restored."""
