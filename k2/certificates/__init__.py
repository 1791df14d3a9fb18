"""Certificates of a day: what is attested of a symbol's rows, as pure rules and documents (docs/certificates.md)."""
