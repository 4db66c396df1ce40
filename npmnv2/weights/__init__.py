"""Weights in memory, the native file, and the registry of readers."""
