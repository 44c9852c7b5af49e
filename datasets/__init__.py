"""Data families: where genuine data come from, and the tasks that they hand over."""
