"""The outside world: Kafka in, Iceberg tables and dead-letter files out."""
