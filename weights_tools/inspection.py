"""The contents of a weight file, and what it lacks: the facts behind ``npmnv2 info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from npmnv2.errors import WeightsError
from npmnv2.files import sha256
from npmnv2.network.config import MobileNetV2Config
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.native import stated_digest
from npmnv2.weights.readers import detect_format
from npmnv2.weights.readers import read_checkpoint as read

Facts = dict[str, Any]


def inspect(path: str | Path) -> Facts:
    """Describe a weight file in any of the formats that are read, as plain data.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        ``file``, ``format``, ``readable`` (whether it loads), then either ``problem`` (why it does not), or
        ``task``, ``classes``, ``config`` (what differs from the defaults), ``parameters``, ``tensors``,
        ``batch_norm`` ("unfolded" or "folded"), ``ema`` (True for averaged, False for raw weights, None where
        the format cannot say), ``preprocessing``, ``labels``, ``missing`` (what the file does not say and a
        default stands for), ``digest`` (of the weights, as a native file states and every reader checks it),
        ``sha256`` (of the file at `path`, None for a directory) and ``source`` (what the file says of its origin).

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    WeightsError
        If it is in no known format.
    """
    path = Path(path)
    facts: Facts = {"file": str(path), "format": detect_format(path)}
    try:
        checkpoint = read(path)
    except WeightsError as error:
        return {**facts, "readable": False, "problem": str(error)}
    return {**facts, "readable": True, **_facts(checkpoint, path)}


def _facts(checkpoint: Checkpoint, path: Path) -> Facts:
    config, weights = checkpoint.config, checkpoint.weights
    source = dict(checkpoint.source)
    own = sha256(path) if path.is_file() else None
    # A converted file tells the digest of the file that it was made of; any other is its own source.
    if source.get("sha256") == own:
        source.pop("sha256", None)
    return {
        "task": checkpoint.task,
        "classes": config.classes if config else None,
        "config": _differing(config) if config else None,
        "parameters": int(sum(value.size for value in weights.values())),
        "tensors": [f"{name} {value.shape}" for name, value in weights.items()],
        "batch_norm": "unfolded" if "bn_Conv1/gamma" in weights else "folded",
        "ema": source.pop("ema", None),
        "preprocessing": checkpoint.preprocessing,
        "labels": list(checkpoint.labels) if checkpoint.labels else None,
        "missing": _missing(checkpoint),
        "digest": stated_digest(path),
        "sha256": own,
        "source": source,
    }


def _differing(config: MobileNetV2Config) -> Facts:
    default = MobileNetV2Config().to_dict()
    values = {**config.to_dict(), "num_labels": config.num_labels}
    skip = ("id2label", "label2id")
    return {key: value for key, value in values.items() if key not in skip and value != default.get(key)}


def _missing(checkpoint: Checkpoint) -> list[str]:
    """What a complete checkpoint has and this one lacks."""
    absent = {
        "config": checkpoint.config is None,
        "labels": checkpoint.labels is None and checkpoint.task != "features",
        "preprocessing": not checkpoint.preprocessing,
        "classifier": checkpoint.task == "features",
        "batch norms (folded)": "bn_Conv1/gamma" not in checkpoint.weights,
    }
    return [what for what, is_absent in absent.items() if is_absent]
