"""Training on a cluster of eight RISC-V cores: cycles, memory and 16-bit numerics of PULP-TrainLib's kernels.

``kernels`` says which inner loop takes a product, ``cluster`` what it costs, ``layers`` what a network asks for;
``formats``, ``products`` and ``arithmetic`` compute what the kernels would; ``emit`` writes them in C.
"""
