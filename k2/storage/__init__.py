"""The on-disk contract: commit log, dead-letter files, recovery store, and how a catalog is opened."""
