"""What can be chosen: one YAML file a choice."""
