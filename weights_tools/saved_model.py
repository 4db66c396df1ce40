"""SavedModels: a folder whose `variables/` holds a checkpoint, under TF-slim's or Keras's names."""

from __future__ import annotations

from pathlib import Path

from npmnv2.weights.checkpoint import Checkpoint

from .tf_checkpoint import Bundle, read_bundle

GRAPH = "saved_model.pb"


def read(path: str | Path) -> Checkpoint:
    """Read the variables of a SavedModel; its graphs are not read.

    Parameters
    ----------
    path : str or Path
        The folder, or the ``saved_model.pb`` in it.

    Raises
    ------
    FileNotFoundError
    WeightsError
    """
    path = Path(path)
    folder = path.parent if path.name == GRAPH else path
    with Bundle(folder / "variables" / "variables") as bundle:
        if not bundle.index.is_file():
            raise FileNotFoundError(f"{bundle.index}: no such file; a SavedModel keeps its variables there")
        return read_bundle(bundle, "saved-model")
