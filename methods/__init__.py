"""Methods by field, and the leaves that they share: models and ops."""
