"""An app that stands before cachalot, and writes when it is ready."""
