"""The maintainers' benchmarks, a command each."""
