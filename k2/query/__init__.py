"""Questions to the tables: DuckDB, the integrity reports, the HTTP API."""
