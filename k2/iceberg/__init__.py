"""Apache Iceberg: the catalog, the two tables, and the sinks that land rows and progress in one commit."""
