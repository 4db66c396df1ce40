"""Photos in a folder, told by their suffix."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def photos_in(folder: str | os.PathLike[str], recursive: bool) -> list[Path]:
    """Files of a folder, and of those inside it, whose suffix is in `SUFFIXES`, in any case; sorted by path.

    Hidden files and folders, whose name begins with a dot, are left out. Links to folders are not followed. A folder
    that cannot be read is left out, with a warning in the log ``npmnv2``.
    """
    found: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=_warn):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [Path(parent, name) for name in files if _is_photo(name)]
    return [path for path in sorted(found) if path.is_file()]


def _warn(error: OSError) -> None:
    import logging

    logging.getLogger("npmnv2").warning("a folder was left out: %s: %s", error.filename, error.strerror)


def _is_photo(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
