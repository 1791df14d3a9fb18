"""Trade capture from Kafka to Apache Iceberg; `docs/architecture.md` is the map."""
