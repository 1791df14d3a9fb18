"""The status of a capture: one verdict with its reasons, from the tables, the dead-letter files and the broker."""
