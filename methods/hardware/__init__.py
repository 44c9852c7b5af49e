"""Modelled hardware: targets that compute as a device would, or say what a network would cost on one."""
