"""The dataflow, one statement an arrow."""
