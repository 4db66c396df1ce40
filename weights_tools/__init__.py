"""Readers and writers of foreign weight formats."""

__all__: list[str] = []
