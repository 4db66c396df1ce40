"""Heads that attach to the backbone's endpoints."""
