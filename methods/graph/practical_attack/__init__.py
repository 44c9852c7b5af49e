"""Attacks on few, unimportant nodes: which ones (RWCS, GC-RWCS), and what is added to their features."""
