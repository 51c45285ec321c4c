"""Code whose result is cached as a whole."""
