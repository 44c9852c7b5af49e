"""A paper's tables: which runs they need, what the store has of them, what the claims come to, how they are shown.

``paper`` reads the YAML, ``measured`` fills it from the store, ``render`` writes it down.
"""
