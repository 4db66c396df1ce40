"""The exceptions npmnv2 raises beside ValueError, TypeError and FileNotFoundError."""

from __future__ import annotations


class WeightsError(ValueError):
    """A weight file that cannot be used: damaged, foreign, incomplete, or made for another model."""


class ImageError(ValueError):
    """An image that cannot be used: not an image, damaged, too small, or with impossible pixels."""


class OfflineError(ConnectionError):
    """A file is not in the cache and may not, or could not, be downloaded."""
