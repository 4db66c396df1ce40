"""Configuration, labels, preprocessing and source as JSON, for formats without places of their own for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from npmnv2.network.config import MobileNetV2Config
from npmnv2.weights.bounds import damaged
from npmnv2.weights.checkpoint import Checkpoint

_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


def to_json(checkpoint: Checkpoint) -> str:
    """What `from_json` reads."""
    stated = {
        "config": checkpoint.config.to_dict() if checkpoint.config else None,
        "labels": checkpoint.labels,
        "preprocessing": checkpoint.preprocessing,
        "source": checkpoint.source,
    }
    return json.dumps(stated, ensure_ascii=False)


def from_json(path: Path, text: str | bytes, place: str) -> dict[str, Any]:
    """Fields of `Content` that the file at `path` states in `place`.

    Raises
    ------
    WeightsError
        If the text is anything else than `to_json` makes.
    """
    try:
        stated = json.loads(text)
        labels = stated["labels"]
        return {
            "config": MobileNetV2Config.from_dict(stated["config"]) if stated["config"] else None,
            "labels": tuple(map(str, labels)) if labels is not None else None,
            "preprocessing": dict(stated["preprocessing"]),
            "source": dict(stated["source"]),
        }
    except _MALFORMED as error:
        raise damaged(path, repr(error), place) from None
