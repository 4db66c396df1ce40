"""Weights in memory and in the native file."""
