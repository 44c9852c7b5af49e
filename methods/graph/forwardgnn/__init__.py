"""ForwardGNN (Park et al., ICLR 2024): graph networks trained layer by layer, in forward passes only."""
