"""Reading and writing weights in the formats of other frameworks, one file a format, without those
frameworks.
"""

from __future__ import annotations

from .formats import READERS, detect_format, read

__all__ = ["READERS", "detect_format", "read"]
