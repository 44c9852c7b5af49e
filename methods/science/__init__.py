"""Methods on physical and molecular systems."""
