"""An app of models of every shape, and generators of what is read and written with them."""
