"""Crossbar of electronic synapses: a weight is a pair of conductances that move by pulses."""
