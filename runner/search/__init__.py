"""Searching a space of configs with Optuna: an optional part, chosen with ``+sweep=optuna``."""
