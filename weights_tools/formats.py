"""Which format a path is in, and reading it whatever the format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from npmnv2.errors import WeightsError
from npmnv2.weights.checkpoint import Checkpoint, check_weights
from npmnv2.weights.native import read_h5
from npmnv2.weights.readers import WEIGHTS_FILE, read_checkpoint

from . import graph_def, npz, saved_model, tf_checkpoint, tflite, torchvision, transformers
from .assemble import in_order, plan_for
from .files import damaged
from .names import canonical_from_torchvision
from .tensors import is_safetensors, tensor_names


def _read_hdf5(path: Path) -> Checkpoint:
    """As `read_h5`, but strict for every task, and in the network's order instead of the alphabet's."""
    checkpoint = _read_directory(path) if path.is_dir() else read_h5(path)
    if checkpoint.config is None:
        return checkpoint
    plan = plan_for(checkpoint.config, checkpoint.weights)
    check_weights(plan, checkpoint.weights, str(path))
    return replace(checkpoint, weights=in_order(plan, checkpoint.weights))


def _read_directory(path: Path) -> Checkpoint:
    """What npmnv2's own `save_pretrained` wrote."""
    try:
        return read_checkpoint(path)
    except WeightsError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise damaged(path / transformers.CONFIG, str(error)) from None


READERS: dict[str, Callable[[Path], Checkpoint]] = {
    "hdf5": _read_hdf5,
    "tf-checkpoint": tf_checkpoint.read,
    "saved-model": saved_model.read,
    "graph-def": graph_def.read,
    "tflite": tflite.read,
    "transformers": transformers.read,
    "torchvision": torchvision.read,
    "npz": npz.read,
}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def detect_format(path: str | Path) -> str:
    """The format of a file or directory: one of the keys of `READERS`.

    Files are recognized by their first bytes, not by their suffix, except frozen graphs, which have no mark.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    WeightsError
        If it is none of the formats that are read.
    """
    path = Path(path)
    found = _format_of_directory(path) if path.is_dir() else _format_of_file(path)
    if found is None and tf_checkpoint.find_prefix(path) is not None:
        found = "tf-checkpoint"
    if found is None and not path.exists():
        raise FileNotFoundError(f"path (={str(path)!r}) must be an existing file or directory")
    if found is None:
        raise WeightsError(f"{path} is none of the formats that are read: {', '.join(READERS)}{_advice(path)}")
    return found


def _format_of_directory(path: Path) -> str | None:
    if (path / saved_model.GRAPH).exists():
        return "saved-model"
    if (path / WEIGHTS_FILE).exists() and not (path / transformers.WEIGHTS).exists():
        return "hdf5"
    if (path / transformers.CONFIG).exists() or (path / transformers.WEIGHTS).exists():
        return "transformers"
    return None


def _format_of_file(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(_HDF5):
        return "hdf5"
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(_ZIP) and path.suffix == ".npz":
        return "npz"
    if is_safetensors(head):
        names = tensor_names(path)
        return "torchvision" if any(canonical_from_torchvision(name) for name in names) else "transformers"
    if path.name == saved_model.GRAPH:
        return "saved-model"
    # A GraphDef begins with its first node: field 1, a message.
    return "graph-def" if path.suffix == ".pb" or (head.startswith(b"\n") and path.suffix == "") else None


def _advice(path: Path) -> str:
    if path.suffix in _PICKLES:
        return (
            ". A pickle can run code when it is opened, so none is; in PyTorch save the state dict with "
            "safetensors.torch.save_file"
        )
    return ". In Keras use model.save('model.h5') instead" if path.suffix == ".keras" else ""


def read(path: str | Path) -> Checkpoint:
    """Read weights in any of the formats in `READERS`.

    Parameters
    ----------
    path : str or Path
        File or directory; for a TensorFlow checkpoint also the prefix that its files share.

    Returns
    -------
    Checkpoint
        Under canonical names; batch norms unfolded where the file has them.

    Raises
    ------
    FileNotFoundError
    WeightsError
        If the file is damaged, in no known format, or does not hold exactly one MobileNetV2.
    """
    return READERS[detect_format(path)](Path(path))
