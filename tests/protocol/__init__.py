"""The protocol as a model whose every interleaving is explored, and the real code beside it."""
