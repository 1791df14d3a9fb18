"""Fill what is missing from a venue's archives and REST answers: plans, requests, files, and what is published."""
