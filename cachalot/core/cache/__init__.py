"""What lies in the cache."""
