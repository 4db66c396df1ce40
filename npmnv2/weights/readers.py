"""The registry of readers: it detects a format by content and calls the format's reader.

A format's reader is a module with a function ``read(path) -> Checkpoint``. It is imported when a file of its format is
met, so that foreign formats cost nothing where they are not used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from npmnv2.errors import WeightsError
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.hdf5 import SIGNATURE as HDF5_SIGNATURE
from npmnv2.weights.hdf5 import USER_BLOCKS
from npmnv2.weights.native import CONFIG_FILE, WEIGHTS_FILE

SAVED_MODEL, SAFETENSORS, TFJS_MODEL = "saved_model.pb", "model.safetensors", "model.json"
_HEAD_BYTES = 1 << 16
_DATA_FILE = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")


def _is_hdf5(head: bytes) -> bool:
    return any(head[at : at + 8] == HDF5_SIGNATURE for at in USER_BLOCKS)


def _is_tflite(head: bytes) -> bool:
    return head[4:8] == b"TFL3"


def _is_npz(head: bytes) -> bool:
    """A zip archive whose first member is an array, or npmnv2's own entry."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    return head.startswith(b"PK\x03\x04") and name.endswith((b".npy", b"npmnv2.json"))


def _is_safetensors(head: bytes) -> bool:
    """The length of a JSON header, and its opening brace."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def _is_torchvision(head: bytes) -> bool:
    return _is_safetensors(head) and b'"features.' in head


def _is_tfjs(head: bytes) -> bool:
    """A JSON object with a member that only TensorFlow.js's models have; other members may come first."""
    return head.lstrip().startswith(b"{") and (b'"modelTopology"' in head or b'"weightsManifest"' in head)


def _is_graph(head: bytes) -> bool:
    """A GraphDef has no mark: it begins with its first node (field 1), which begins with its name (field 1)."""
    found = re.match(rb"\n[\x80-\xff]{0,9}[\x00-\x7f]\n([\x80-\xff]{0,1}[\x00-\x7f])", head)
    if not found:
        return False
    length = sum((byte & 0x7F) << (7 * at) for at, byte in enumerate(found[1]))
    # After the name comes the operation (field 2) or, in damaged files, whatever there is.
    return head[found.end() + length : found.end() + length + 1] == b"\x12"


class Format(NamedTuple):
    """How a format is recognized and read.

    Attributes
    ----------
    name : str
    module : str
        Has the function ``read``.
    file : callable
        Whether a file begins like one of this format, by its first 64 KiB.
    folder : callable
        Whether a folder that holds files of these names is of this format.
    """

    name: str
    module: str
    file: Callable[[bytes], bool] = lambda head: False
    folder: Callable[[set[str]], bool] = lambda names: False


_FOREIGN = "npmnv2.weights_tools"  # known by name only, until a file of its formats is met
FORMATS = (
    Format("saved-model", f"{_FOREIGN}.saved_model", folder=lambda names: SAVED_MODEL in names),
    Format("hdf5", "npmnv2.weights.native", _is_hdf5, lambda names: WEIGHTS_FILE in names),
    Format("tflite", f"{_FOREIGN}.tflite", _is_tflite),
    Format("npz", f"{_FOREIGN}.npz", _is_npz),
    Format("torchvision", f"{_FOREIGN}.torchvision", _is_torchvision),
    Format(
        "transformers",
        f"{_FOREIGN}.transformers",
        _is_safetensors,
        lambda names: CONFIG_FILE in names or SAFETENSORS in names,
    ),
    Format("tfjs", f"{_FOREIGN}.tfjs", _is_tfjs, lambda names: TFJS_MODEL in names),
    Format("graph-def", f"{_FOREIGN}.graph_def", _is_graph),
    # Several files with one prefix, found by their names: `checkpoint_prefix`.
    Format("tf-checkpoint", f"{_FOREIGN}.tf_checkpoint"),
)
_BY_NAME = {format_.name: format_ for format_ in FORMATS}


def detect_format(path: str | Path) -> str:
    """The format of a file, a directory, or a TensorFlow checkpoint's prefix: the name of one of `FORMATS`.

    Files are recognized by their first bytes, directories by the names of the files in them.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    WeightsError
        If it is none of the formats that are read.
    """
    path = Path(path)
    if path.is_dir():
        names = {entry.name for entry in path.iterdir()}
        found = next((format_.name for format_ in FORMATS if format_.folder(names)), None)
    elif path.name == SAVED_MODEL:
        found = "saved-model"
    else:
        head = _head(path)
        found = next((format_.name for format_ in FORMATS if format_.file(head)), None)
    if found is None and checkpoint_prefix(path) is not None:
        found = "tf-checkpoint"
    if found is None and not path.exists():
        raise FileNotFoundError(f"weights (={str(path)!r}) must be an existing file or directory")
    if found is None:
        raise WeightsError(f"{path} is none of the formats that are read: {', '.join(_BY_NAME)}{_advice(path)}")
    return found


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def checkpoint_prefix(path: Path) -> Path | None:
    """The prefix of the TensorFlow checkpoint at a path; None if there is no checkpoint.

    The path may be the prefix itself, the index, a data file, or a folder with one checkpoint.

    Raises
    ------
    WeightsError
        If the folder holds several checkpoints.
    """
    if path.suffix == ".index" and path.is_file():
        return path.with_suffix("")
    if match := _DATA_FILE.fullmatch(path.name):
        path = path.with_name(match[1])
    if path.name and path.with_name(f"{path.name}.index").is_file():
        return path
    indexes = sorted(path.glob("*.index")) if path.is_dir() else []
    if len(indexes) > 1:
        listed = ", ".join(index.stem for index in indexes[:8])
        raise WeightsError(f"{path}: holds several checkpoints ({listed}); name one of them")
    return indexes[0].with_suffix("") if indexes else None


_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def _advice(path: Path) -> str:
    if path.suffix in _PICKLES:
        return (
            ". A pickle can run code when it is opened, so none is; in PyTorch save the state dict with "
            "safetensors.torch.save_file"
        )
    return ". In Keras use model.save('model.h5') instead" if path.suffix == ".keras" else ""


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read weights in any of `FORMATS`.

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
    found: Checkpoint = import_module(_BY_NAME[detect_format(path)].module).read(path)
    return found
