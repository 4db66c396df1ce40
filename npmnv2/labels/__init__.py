"""Names of classes."""
