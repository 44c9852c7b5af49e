"""Neural Bellman-Ford networks (Zhu, Zhang, Xhonneux & Tang, NeurIPS 2021): link prediction by learned path sums."""
