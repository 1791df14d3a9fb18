"""HTTP API of the queries and integrity reports."""
