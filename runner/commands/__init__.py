"""Subcommands, one a module."""
