"""The model of the page, which has no table."""
