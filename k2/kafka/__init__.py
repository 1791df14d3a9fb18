"""Kafka: the columnar source with its client, and the producer."""
