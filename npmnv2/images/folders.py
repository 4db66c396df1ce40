"""Photos in a folder, told by their suffix."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def photos_in(folder: str | os.PathLike[str], recursive: bool) -> list[Path]:
    """Files of a folder, and of those inside it, whose suffix is in `SUFFIXES`, in any case; sorted by path.

    Hidden files and folders, whose name begins with a dot, are left out. Links to folders are not followed.
    """
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [Path(parent, name) for name in files if _is_photo(name)]
    return [path for path in sorted(found) if path.is_file()]


def _is_photo(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
