"""The native weight file: Keras's legacy HDF5 layout plus one JSON attribute, ``npmnv2``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from npmnv2.errors import WeightsError
from npmnv2.files import sha256, write_atomically
from npmnv2.kernels import Array
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.weights import hdf5
from npmnv2.weights.checkpoint import TASKS, Checkpoint, expected_shapes
from npmnv2.weights.keras import checkpoint_from_keras, model_config, named_arrays

FORMAT_VERSION = 1


def write_h5(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write the native file: Keras's legacy HDF5 layout and the JSON attribute ``npmnv2``. Atomic.

    Raises
    ------
    OSError
        If the file cannot be written; an existing one is then as it was.
    """
    import h5py

    with (
        write_atomically(Path(path)) as temporary,
        # The oldest layout is the one that Keras writes and `npmnv2.weights.hdf5` reads.
        h5py.File(temporary, "w", libver=("earliest", "v110")) as file,
    ):
        file.attrs["npmnv2"] = json.dumps(_metadata(checkpoint), ensure_ascii=False)
        layers: dict[str, list[str]] = {}
        for name in _in_order(checkpoint):
            layers.setdefault(name.rpartition("/")[0], []).append(name)
        # Keras pairs the layers of a file with those of a model by position, and these two attributes are the order.
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, names in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name in names:
                group[name] = checkpoint.weights[name]


def _in_order(checkpoint: Checkpoint) -> list[str]:
    """Names of the weights as backbone and classifier use them, then those of other heads as they come."""
    if checkpoint.config is None:
        return list(checkpoint.weights)
    network = expected_shapes(classifier(checkpoint.config), checkpoint.weights)
    place = {name: at for at, name in enumerate(network)}
    return sorted(checkpoint.weights, key=lambda name: place.get(name, len(place)))


def _metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.config.to_dict() if checkpoint.config is not None else None
    if config is not None:
        # The labels are written once, below.
        config = {key: value for key, value in config.items() if key not in ("id2label", "label2id")}
        assert checkpoint.config is not None
        config["num_labels"] = checkpoint.config.num_labels
    return {
        "format": FORMAT_VERSION,
        "task": checkpoint.task,
        "config": config,
        "labels": checkpoint.labels,
        "preprocessing": checkpoint.preprocessing,
        "source": checkpoint.source,
    }


def read_h5(path: str | Path) -> Checkpoint:
    """Read a native file or any of Keras's HDF5 layouts (full model, weights only, nested, ``.weights.h5``).

    Raises
    ------
    FileNotFoundError
    WeightsError
        If it is not HDF5, is damaged, or does not hold a MobileNetV2.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights (={str(path)!r}) must be an existing file")
    file = hdf5.File(path)
    arrays = dict(named_arrays(file))
    attribute, keras = file.text("", "npmnv2"), file.text("", "model_config")
    if attribute is not None:
        checkpoint = _native(attribute, arrays, path)
    else:
        checkpoint = checkpoint_from_keras(arrays, model_config(keras), path)
    checkpoint.source = {"file": path.name, "sha256": sha256(path), **checkpoint.source}
    return checkpoint


def _native(attribute: str, arrays: dict[str, Array], path: Path) -> Checkpoint:
    try:
        metadata = json.loads(attribute)
        version = metadata["format"]
        if version != FORMAT_VERSION:
            raise WeightsError(f"{path} has format version {version!r}; this version of npmnv2 reads {FORMAT_VERSION}")
        if metadata["task"] not in TASKS:
            raise WeightsError(f"{path}: task (={metadata['task']!r}) must be one of {', '.join(TASKS)}")
        labels = None if metadata["labels"] is None else tuple(map(str, metadata["labels"]))
        config = metadata["config"]
        if config is not None:
            config = _config(config, path)
            if labels is not None and len(labels) == config.classes:
                config = config.replace(id2label=dict(enumerate(labels)))
        return Checkpoint(
            arrays,
            metadata["task"],
            config,
            labels,
            dict(metadata["preprocessing"]),
            dict(metadata["source"]),
        )
    except WeightsError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: the attribute 'npmnv2' is damaged: {error!r}") from None


def _config(values: dict[str, Any], path: Path) -> MobileNetV2Config:
    try:
        return MobileNetV2Config.from_dict(values)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
