"""Times Django without a cache, the least a cache could take, cachalot, and other ORM caches."""
