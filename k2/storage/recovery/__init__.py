"""Create, read, lock, back up and restore the recovery store."""
