"""A photo to try a detector on: the portrait of Grace Hopper, which Matplotlib brings along."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from npmnv2.errors import OfflineError
from npmnv2.hub.archives import extract_from_zip
from npmnv2.hub.cache import cache_home, exclusive_write
from npmnv2.hub.transport import offline_switch, pip_download

_MEMBER = "mpl-data/sample_data/grace_hopper.jpg"


def portrait() -> Path:
    """Path of the portrait (public domain, by James S. Davis, U.S. Navy).

    From an installed Matplotlib, from the cache, or from Matplotlib's wheel, as the package index has it. Nothing
    of the wheel is installed or run.

    Raises
    ------
    OfflineError
        If it is in none of them, and there is no network.
    """
    cached = cache_home() / "photos" / Path(_MEMBER).name
    for file in (_installed(), cached):
        if file is not None and file.is_file():
            return file
    if switch := offline_switch():
        raise OfflineError(f"{switch} forbids downloading a photo: pass one of yours")
    with exclusive_write(cached) as workspace:
        # A process that had the turn before may have made the file.
        if not cached.is_file():
            extract_from_zip(pip_download("matplotlib", workspace), f"matplotlib/{_MEMBER}", workspace).replace(cached)
    return cached


def _installed() -> Path | None:
    """Where the photo is in an installed Matplotlib, which is not imported."""
    found = importlib.util.find_spec("matplotlib")
    return Path(found.origin).parent / _MEMBER if found is not None and found.origin else None
