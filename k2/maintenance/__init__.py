"""Upkeep of the tables next to the job that writes them: `k2 maintain`."""
