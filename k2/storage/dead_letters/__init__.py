"""The dead-letter queue: rejected messages as lines of JSON in files."""
