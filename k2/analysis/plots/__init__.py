"""Pictures of trades and reports, drawn with matplotlib; each function takes rows and returns a figure."""
