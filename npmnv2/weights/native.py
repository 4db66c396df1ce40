"""The native weight file: Keras's legacy HDF5 layout plus one JSON attribute, ``npmnv2``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from npmnv2.errors import ArgumentError, ArgumentTypeError, WeightsError
from npmnv2.files import sha256, write_atomically
from npmnv2.kernels import Array
from npmnv2.network.config import MobileNetV2Config
from npmnv2.weights import hdf5
from npmnv2.weights.assemble import in_order, plan_for
from npmnv2.weights.checkpoint import TASKS, Checkpoint, check_weights
from npmnv2.weights.keras import checkpoint_from_keras, model_config, named_arrays, refuse_integers

if TYPE_CHECKING:
    from npmnv2.network.quantization import Quantization

FORMAT_VERSION = 1
# What save_pretrained calls the native file in its directory, and the configuration beside it.
WEIGHTS_FILE, CONFIG_FILE = "model.h5", "config.json"


# --- writing ----------------------------------------------------------------------------------------------------------


def write_h5(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write the native file: Keras's legacy HDF5 layout and the JSON attribute ``npmnv2``. Atomic.

    Raises
    ------
    OSError
        If the file cannot be written; an existing one is then as it was.
    """
    write_image(Path(path), checkpoint)


def write_image(path: Path, checkpoint: Checkpoint, keras: Mapping[str, str] | None = None) -> None:
    """Write an HDF5 file; with attributes for Keras, also the group in which Keras looks for a model's weights.

    The file is made in memory first: libhdf5 ends the process by a signal where a disk is full or a limit is reached.
    """
    import h5py

    image = BytesIO()
    # The oldest layout is the one that Keras writes and `npmnv2.weights.hdf5` reads.
    with h5py.File(image, "w", libver=("earliest", "v110")) as file:
        _fill(file, checkpoint)
        if keras is not None:
            _add_for_keras(file, keras)
    with write_atomically(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def _fill(file: Any, checkpoint: Checkpoint) -> None:
    weights = _ordered(checkpoint)
    # As it will be read: JSON has no tuples, and its keys are text.
    metadata = json.loads(json.dumps(_metadata(checkpoint)))
    metadata["digest"] = digest(metadata, weights)
    file.attrs["npmnv2"] = json.dumps(metadata, ensure_ascii=False)
    layers: dict[str, list[str]] = {}
    for name in weights:
        layers.setdefault(name.rpartition("/")[0], []).append(name)
    # Keras pairs the layers of a file with those of a model by position, and these two attributes are the order.
    file.attrs["layer_names"] = [layer.encode() for layer in layers]
    for layer, names in layers.items():
        group = file.create_group(layer)
        group.attrs["weight_names"] = [name.encode() for name in names]
        for name in names:
            group[name] = weights[name]


def _add_for_keras(file: Any, attributes: Mapping[str, str]) -> None:
    file.attrs.update(attributes)
    group = file.create_group("model_weights")
    group.attrs.update({key: value for key, value in attributes.items() if key != "model_config"})
    group.attrs["layer_names"] = file.attrs["layer_names"]
    for layer in file.attrs["layer_names"]:
        # A second name for the same group, not a copy.
        group[layer] = file[layer]


def _ordered(checkpoint: Checkpoint) -> dict[str, Array]:
    """The weights in the order of the network's layers; in the given order without a configuration."""
    if checkpoint.config is None:
        return checkpoint.weights
    return in_order(plan_for(checkpoint.config, checkpoint.weights), checkpoint.weights)


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
        **({"quantization": checkpoint.quantization.to_json()} if checkpoint.quantization is not None else {}),
    }


def digest(metadata: Mapping[str, Any], weights: Mapping[str, Array]) -> str:
    """SHA-256, as hex digits, of what a native file says and of its weights: names, shapes, values."""
    stated = {key: value for key, value in metadata.items() if key != "digest"}
    found = hashlib.sha256(json.dumps(stated, sort_keys=True).encode())
    for name in sorted(weights):
        found.update(f"{name} {weights[name].shape}".encode())
        values = weights[name]
        little = "<f4" if values.dtype.kind == "f" else values.dtype.newbyteorder("<")
        found.update(np.ascontiguousarray(values, little).data)
    return found.hexdigest()


def stated_digest(path: str | Path) -> str | None:
    """The digest that a native file, or a directory with one, says it has; None for any other file of weights.

    `read` compares it with the contents.
    """
    path = Path(path)
    path = path / WEIGHTS_FILE if path.is_dir() else path
    try:
        attribute = hdf5.File.open(path).text("", "npmnv2")
    except (WeightsError, OSError):
        return None
    stated = json.loads(attribute).get("digest") if attribute is not None else None
    return None if stated is None else str(stated)


# --- reading ----------------------------------------------------------------------------------------------------------


def read(path: str | Path) -> Checkpoint:
    """Read a native file, a directory that `save_pretrained` made, or any of Keras's HDF5 layouts.

    Raises
    ------
    FileNotFoundError
    WeightsError
        If it is not HDF5, is damaged, or does not hold a MobileNetV2.
    """
    path = Path(path)
    if not path.is_dir():
        return read_h5(path)
    checkpoint = read_h5(path / WEIGHTS_FILE)
    if (path / CONFIG_FILE).is_file():
        # config.json is there to be edited; the file's own copy is for when the file travels alone.
        try:
            checkpoint.config = MobileNetV2Config.from_pretrained(path)
        except (ArgumentError, ArgumentTypeError) as error:
            raise WeightsError(f"{path / CONFIG_FILE}: {error}") from None
        _check(checkpoint, path)
    return checkpoint


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
    file = hdf5.File.open(path)
    arrays = dict(named_arrays(file))
    attribute = file.text("", "npmnv2")
    if attribute is not None:
        checkpoint = _native(attribute, arrays, path)
    else:
        checkpoint = checkpoint_from_keras(arrays, model_config(file.text("", "model_config")), path)
    # A file that was converted says what it was converted from.
    own = {} if "sha256" in checkpoint.source else {"sha256": sha256(path)}
    checkpoint.source = {"file": path.name, **own, **checkpoint.source}
    return checkpoint


def _native(attribute: str, arrays: dict[str, Array], path: Path) -> Checkpoint:
    try:
        metadata = json.loads(attribute)
        version = metadata["format"]
        if version != FORMAT_VERSION:
            raise WeightsError(f"{path} has format version {version!r}; this version of npmnv2 reads {FORMAT_VERSION}")
        _check_digest(metadata, arrays, path)
        checkpoint = _stated(metadata, arrays)
        if checkpoint.quantization is None:
            refuse_integers(arrays, path)
    except WeightsError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise WeightsError(f"{path}: the attribute 'npmnv2' is damaged: {error!r}") from None
    _check(checkpoint, path)
    checkpoint.weights = _ordered(checkpoint)
    return checkpoint


def _check_digest(metadata: dict[str, Any], arrays: dict[str, Array], path: Path) -> None:
    found = digest(metadata, arrays)
    if metadata["digest"] != found:
        raise WeightsError(
            f"{path} was damaged or edited since it was written: its contents must have the digest "
            f"{str(metadata['digest'])[:64]}, got {found}; get the file again, or convert its source again"
        )


def _stated(metadata: dict[str, Any], arrays: dict[str, Array]) -> Checkpoint:
    if metadata["task"] not in TASKS:
        raise ValueError(f"task (={metadata['task']!r}) must be one of {', '.join(TASKS)}")
    labels = None if metadata["labels"] is None else tuple(map(str, metadata["labels"]))
    config = metadata["config"]
    if config is not None:
        config = MobileNetV2Config.from_dict(config)
        if labels is not None and len(labels) == config.classes:
            config = config.replace(id2label=dict(enumerate(labels)))
    quantization = _quantization(metadata["quantization"]) if "quantization" in metadata else None
    facts = dict(metadata["preprocessing"]), dict(metadata["source"])
    return Checkpoint(arrays, metadata["task"], config, labels, *facts, quantization)


def _quantization(stated: Any) -> Quantization:
    from npmnv2.network.quantization import Quantization

    return Quantization.from_json(stated)


def _check(checkpoint: Checkpoint, path: Path) -> None:
    if checkpoint.config is None:
        return
    try:
        plan = plan_for(checkpoint.config, checkpoint.weights)
        check_weights(plan, checkpoint.weights, str(path))
        if checkpoint.quantization is not None:
            from npmnv2.network.quantization import check_quantization

            check_quantization(plan, checkpoint.weights, checkpoint.quantization, str(path))
    except WeightsError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise WeightsError(f"{path}: its configuration is impossible: {error}") from None
