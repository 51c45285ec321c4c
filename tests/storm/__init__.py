"""Readers and writers as processes, and a monkey that kills writers and breaks the cache.

A read that begins after a write has returned, its new versions set, and that sees less than what
was written is stale. There must be none; ``python -m tests.storm`` exits with 1 if there is one.
"""
