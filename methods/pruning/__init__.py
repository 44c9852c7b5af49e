"""Pruning of trained networks: by a criterion, and after a metanetwork has changed their weights."""
