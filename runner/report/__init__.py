"""A static site of what the store has: papers with their tables and curves, runs, comparisons.

``content`` reads the store into plain values, ``curves`` thins histories, ``quantities`` knows what a metric's name
says, ``views`` arranges, ``site`` writes the pages. Everything from the store is untrusted text: templates escape it,
scripts get it as JSON, and a method's plots are shown as images, never as part of a page.
"""
