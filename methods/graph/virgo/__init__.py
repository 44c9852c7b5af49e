"""What initial weights do to a graph network: signal by depth, and how training starts."""
