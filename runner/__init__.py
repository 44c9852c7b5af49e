"""runner: one command for methods beside back-propagation, their benchmarks and their published figures."""
