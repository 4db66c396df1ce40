"""Weights by name: registry, download and cache."""
