"""One front door for weight files and model directories of every format."""

from __future__ import annotations

from pathlib import Path

from npmnv2.network.config import MobileNetV2Config
from npmnv2.weights.checkpoint import Checkpoint
from npmnv2.weights.native import read_h5

WEIGHTS_FILE = "model.h5"


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a weight file or model directory of any format that npmnv2 knows.

    Raises
    ------
    FileNotFoundError
    WeightsError
    """
    path = Path(path)
    if path.is_dir() and (path / WEIGHTS_FILE).is_file():
        checkpoint = read_h5(path / WEIGHTS_FILE)
        # config.json is there to be edited; the file's own copy is for when the file travels alone.
        checkpoint.config = MobileNetV2Config.from_pretrained(path)
        return checkpoint
    if path.suffix in (".h5", ".hdf5", ".keras") and path.is_file():
        return read_h5(path)
    if not path.exists():
        raise FileNotFoundError(f"weights (={str(path)!r}) must be an existing file or directory")
    from npmnv2.weights_tools import read  # foreign formats are no business of most users

    return read(path)
