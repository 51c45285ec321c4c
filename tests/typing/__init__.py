"""Code of a user of the package, which mypy reads and nothing runs."""
