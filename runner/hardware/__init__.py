"""Hardware that runs are made on, and what it measures."""
