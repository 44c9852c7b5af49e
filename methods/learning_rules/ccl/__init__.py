"""Counter-current learning: two networks, one from inputs, one from targets, that teach each other by layers."""
