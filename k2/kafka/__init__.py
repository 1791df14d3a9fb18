"""Kafka at both ends: the columnar source, and what it needs of the broker."""
