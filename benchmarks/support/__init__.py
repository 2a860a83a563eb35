"""What several benchmarks share: machines, other people's networks, own processes."""
