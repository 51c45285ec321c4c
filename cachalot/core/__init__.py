"""How cachalot works. Nothing in this package is public."""
