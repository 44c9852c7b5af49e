"""Modelled hardware targets: what a network would cost, and which numbers it would compute, on a machine not here."""
