"""Servers of the tests' own that fail over, restart from a dump, or are two for a while."""
