"""What host and device code must agree on, as digests that the manifest of a library repeats."""

from __future__ import annotations

import hashlib
from pathlib import Path

from . import steps
from .calls import CALL, SPAN
from .thread_team import SHARE, TEAM, WORKER

_DEVICE = Path(__file__).parents[1] / "device"


def layout_digest() -> str:
    """Digest of all records that both sides read, and of the numbers of operations and buffers."""
    numbers = {name: value for name, value in sorted(vars(steps).items()) if name.isupper() and isinstance(value, int)}
    kinds = (steps.STEP, steps.PANEL, steps.SAMPLE, CALL, SPAN, TEAM, WORKER, SHARE)
    records = [(kind.itemsize, repr(kind)) for kind in kinds]
    return hashlib.sha256(repr((records, numbers)).encode()).hexdigest()[:16]


def source_digest() -> str:
    """Digest of the sources that kernels are compiled from; empty where the package comes without its sources."""
    files = sorted(_DEVICE.rglob("*.py"))
    digests = [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    return hashlib.sha256(repr(digests).encode()).hexdigest()[:16] if digests else ""
