"""Models under threads, forks and process pools: nothing hangs, and every result has the same bits."""

from __future__ import annotations

import os
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from children import run_python
from engines import require_engine

from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification
from npmnv2.lab.random_weights import unit_gain_weights

require_engine()

CONFIG = MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=10)


def _model(seed: int, n_threads: int) -> MobileNetV2ForImageClassification:
    weights = unit_gain_weights(MobileNetV2ForImageClassification.build(CONFIG), seed)
    return MobileNetV2ForImageClassification(CONFIG, weights, backend="compiled", n_threads=n_threads)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (8, 64, 64, 3)).astype(np.float32)


def _logits(model: MobileNetV2ForImageClassification, images: np.ndarray) -> np.ndarray:
    return model(images, data_format="channels_last").logits


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n_models", [1, 2])
def test_eight_threads_at_once(images: np.ndarray, n_models: int, n_threads: int) -> None:
    models = [_model(seed, n_threads) for seed in range(n_models)]
    expected = [_logits(_model(seed, 1), images) for seed in range(n_models)]
    assert np.std(expected, axis=(1, 2)).min() > 0.01

    def call(at: int) -> tuple[int, int, np.ndarray]:
        which, image = at % n_models, at % len(images)
        return which, image, _logits(models[which], images[image : image + 1])

    with ThreadPoolExecutor(8) as pool:
        for which, image, logits in pool.map(call, range(80)):
            np.testing.assert_array_equal(logits[0], expected[which][image])


SCRIPT = """
import concurrent.futures, multiprocessing, os, sys
import numpy as np
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2 import MobileNetV2Config, MobileNetV2ForImageClassification

config = MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=10)
weights = unit_gain_weights(MobileNetV2ForImageClassification.build(config))
model = MobileNetV2ForImageClassification(config, weights, backend="compiled", n_threads=2)
images = np.random.default_rng(0).uniform(-1, 1, (4, 64, 64, 3)).astype(np.float32)

def predict(at):
    return model(images[at : at + 1], data_format="channels_last").logits.tobytes()

if __name__ == "__main__":
    expected = [predict(at) for at in range(4)]
"""


def _python(tmp_path: Path, body: str) -> str:
    return run_python(SCRIPT + textwrap.indent(textwrap.dedent(body), "    "), tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_forked_child_predicts(tmp_path: Path) -> None:
    body = """
        child = os.fork()
        if child == 0:
            os._exit(0 if [predict(at) for at in range(4)] == expected else 1)
        print(os.waitpid(child, 0)[1], [predict(at) for at in range(4)] == expected)
    """
    assert _python(tmp_path, body) == "0 True"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_process_pools_predict(tmp_path: Path, method: str) -> None:
    body = f"""
        if {method!r} not in multiprocessing.get_all_start_methods():
            print(True)
            sys.exit()
        context = multiprocessing.get_context({method!r})
        with context.Pool(1) as pool, concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
            print(pool.map(predict, range(4)) == list(executor.map(predict, range(4))) == expected)
    """
    assert _python(tmp_path, body) == "True"
