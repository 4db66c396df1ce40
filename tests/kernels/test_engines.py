"""Engines: the library's kernels for every instruction set of this machine, and Numba's, give the same bits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from npmnv2.kernels.host.engine import Engine, find_engine

from npmnv2.backends.compiled import CompiledBackend
from npmnv2.lab.random_weights import unit_gain_weights
from npmnv2.network.architecture import classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.deeplab import segmenter
from npmnv2.network.plan import Plan
from npmnv2.weights.checkpoint import fold_batch_norms

ENGINES = [engine for name in ("avx512", "avx2", "neon", "numba") if (engine := find_engine(name))]
if len(ENGINES) < 2:
    pytest.skip("needs two engines: native kernels, and Numba or another instruction set", allow_module_level=True)

OFFICIAL = [(1.4, 224), (1.3, 224)] + [(m, s) for m in (1.0, 0.75, 0.5, 0.35) for s in (224, 192, 160, 128, 96)]
HEADS = [
    {"output_stride": stride, "decoder": decoder, "depth_multiplier": multiplier}
    for stride in (8, 16)
    for decoder in (False, True)
    for multiplier in (0.5, 1.0)
]


def digests(plan: Plan, size: int, batch: int, n_threads: int) -> dict[str, str]:
    """Digest of the result of one plan on every engine."""
    weights = fold_batch_norms(plan, unit_gain_weights(plan))
    x = np.random.default_rng(1).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)

    def digest(engine: Engine) -> str:
        found = CompiledBackend(engine).compile(plan, weights, n_threads)(x, [plan.nodes[-1].name])
        return hashlib.sha256(found[plan.nodes[-1].name].tobytes()).hexdigest()

    return {engine.name: digest(engine) for engine in ENGINES}


@pytest.mark.slow
@pytest.mark.parametrize(("multiplier", "size"), OFFICIAL)
def test_classifiers_of_all_official_sizes(multiplier: float, size: int) -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=multiplier, image_size=size, num_labels=1001))
    for batch, n_threads in ((1, 1), (3, 2)):
        assert len(set(digests(plan, size, batch, n_threads).values())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_segmentation_heads(head: dict[str, float]) -> None:
    plan = segmenter(MobileNetV2Config(image_size=257, num_labels=21, **head))
    for n_threads in (1, 2):
        assert len(set(digests(plan, 257, 1, n_threads).values())) == 1


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_a_small_network(n_threads: int) -> None:
    plan = classifier(MobileNetV2Config(depth_multiplier=0.35, image_size=64, num_labels=10))
    assert len(set(digests(plan, 64, 7, n_threads).values())) == 1
