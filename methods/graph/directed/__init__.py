"""Graph networks that see which way edges go, and measures of what direction tells."""
