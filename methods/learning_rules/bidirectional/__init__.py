"""Bidirectional learning: one set of weights classifies upwards and generates images downwards."""
