"""FlashSchNet: a coarse-grained neural potential, evaluated in fused passes over its neighbour list."""
