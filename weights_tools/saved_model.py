"""SavedModels: a folder whose `variables/` holds a checkpoint, under TF-slim's or Keras's names.

The Object Detection API's have no variables but a frozen graph in ``saved_model.pb``. Schema:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/saved_model.proto
"""

from __future__ import annotations

from pathlib import Path

from npmnv2.errors import WeightsError
from npmnv2.weights.bounds import Budget, read_bytes
from npmnv2.weights.checkpoint import Checkpoint

from .graph import read_graph
from .graph_def import meta_graph
from .protobuf import Message
from .tf_checkpoint import Bundle, read_bundle

GRAPH = "saved_model.pb"


def read(path: str | Path) -> Checkpoint:
    """Read the variables of a SavedModel; its graph is read where it has none.

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
    if not (folder / "variables" / "variables.index").is_file():
        return _frozen(folder / GRAPH)
    with Bundle(folder / "variables" / "variables") as bundle:
        return read_bundle(bundle, "saved-model")


def _frozen(path: Path) -> Checkpoint:
    """The checkpoint that the first graph of a SavedModel holds as constants."""
    data = read_bytes(path)
    budget = Budget(path, len(data))
    for graph in Message(memoryview(data), budget).messages(2):
        return read_graph(meta_graph(path, graph.data, budget), "saved-model")
    raise WeightsError(f"{path}: has neither variables beside it nor a graph in it")
