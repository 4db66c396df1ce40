"""Files that TensorFlow wrote, for several modules of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from weight_files import random_checkpoint


@pytest.fixture(scope="session")
def checkpoint():
    return random_checkpoint(depth_multiplier=0.35, finegrained_output=True, expand_ratio=6, num_labels=5)


@pytest.fixture(scope="session")
def written(checkpoint, tmp_path_factory) -> Path:
    """A folder with a checkpoint (``model.ckpt``), a SavedModel and a frozen graph, all written by
    TensorFlow.
    """
    pytest.importorskip("tensorflow")
    from tensorflow_graphs import tensorflow_graph, tf1

    folder = tmp_path_factory.mktemp("tensorflow")
    graph, image, logits = tensorflow_graph(checkpoint, 96, frozen=False)
    with graph.as_default(), tf1.Session() as session:
        tf1.train.get_or_create_global_step()
        session.run(tf1.global_variables_initializer())
        tf1.train.Saver().save(session, str(folder / "model.ckpt"))
        tf1.saved_model.simple_save(session, str(folder / "saved"), {"image": image}, {"logits": logits})
    graph, _, _ = tensorflow_graph(checkpoint, 96, frozen=True)
    (folder / "frozen.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return folder
