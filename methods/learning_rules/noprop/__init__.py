"""NoProp: blocks that each learn alone to denoise a class's embedding (Li, Teh & Pascanu, arXiv 2503.24322)."""
