"""Queries of the tables: DuckDB, query builders and integrity reports."""
