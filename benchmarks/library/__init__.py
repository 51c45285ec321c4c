"""The models and rows that the benchmarks read and write."""
