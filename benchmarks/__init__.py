"""What `make bench` measures: every figure beside a plain reference, in one run, as a ratio."""
