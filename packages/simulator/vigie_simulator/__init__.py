"""A seeded, simulated bank that feeds the demo, tests and benchmarks."""
