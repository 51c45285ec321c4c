"""How a read becomes a hit."""
