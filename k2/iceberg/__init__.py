"""Apache Iceberg: the tables, and the sinks that commit rows and progress together."""
