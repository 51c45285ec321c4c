"""How a change invalidates."""
