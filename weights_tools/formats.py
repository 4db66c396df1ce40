"""Which format a path is in, and reading it whatever the format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from npmnv2.errors import WeightsError
from npmnv2.weights import Checkpoint, read_h5

from . import tflite

READERS: dict[str, Callable[[Path], Checkpoint]] = {
    "hdf5": read_h5,
    "tflite": tflite.read,
}
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def detect_format(path: str | Path) -> str:
    """The format of a file or directory: one of the keys of `READERS`.

    Files are recognised by their first bytes, not by their suffix, except frozen graphs, which have no mark.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    WeightsError
        If it is none of the formats that are read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path (={str(path)!r}) must be an existing file or directory")
    found = _format_of_file(path)
    if found is None:
        raise WeightsError(
            f"{path} is none of the formats that are read: {', '.join(READERS)}{_advice(path)}"
        )
    return found


def _format_of_file(path: Path) -> str | None:
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(_HDF5):
        return "hdf5"
    if head[4:8] == b"TFL3":
        return "tflite"
    return None


def _advice(path: Path) -> str:
    if path.suffix in _PICKLES:
        return (
            ". A pickle can run code when it is opened, so none is; in PyTorch save the state dict with "
            "safetensors.torch.save_file"
        )
    return ""


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
