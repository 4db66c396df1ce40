"""Targets: layouts and kernels for several widths of vectors live in one process, and give the same bits."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from networks import CONFIGS, folded_weights, images
from npmnv2.kernels.host import packing
from npmnv2.kernels.host.processor import Processor
from npmnv2.kernels.host.target import Target

WIDE, NARROW = Target(16, 32), Target(8, 16)
TARGETS = [WIDE, NARROW, Target(4, 16), Target(4, 32)]


def test_vectors_hold_all_channels() -> None:
    assert [WIDE.vectors(channels) for channels in (1, 16, 17)] == [1, 1, 2]
    assert (WIDE.vector_bytes, NARROW.vector_bytes) == (64, 32)


def test_names_tell_targets_apart() -> None:
    targets = [*TARGETS, Target(8, 16, frozenset({"fma"})), Target(8, 16, frozenset({"fma", "avxvnni"}))]
    assert len({target.name for target in targets}) == len(targets)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
@pytest.mark.parametrize("channels", [1, 8, 24, 33, 100])
def test_packed_arrays_hold_every_number_once(target: Target, channels: int) -> None:
    """But for padding, and for a last vector of which half is filled: that stands twice."""
    count = target.vectors(channels) * target.lanes
    numbers = np.arange(1, 1 + 2 * channels, dtype=np.float32).reshape(2, channels)
    packed = packing.pack_matrix(target, numbers)
    assert packed.size == 2 * count
    found, times = np.unique(packed[packed > 0], return_counts=True)
    assert set(found) == set(numbers.ravel())
    assert (times > 1).any() == packing.has_half(target, channels)
    bias = packing.pack_bias(target, numbers[0])
    np.testing.assert_array_equal(bias[:channels], numbers[0])
    filters = np.arange(9 * channels, dtype=np.float32).reshape(3, 3, channels)
    by_vector = packing.pack_filters(target, filters).reshape(-1, 9, target.lanes)
    last = channels - 1
    np.testing.assert_array_equal(by_vector[last // target.lanes, :, last % target.lanes], filters[..., last].ravel())


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_target_does_not_change_a_bit(target: Target) -> None:
    pytest.importorskip("numba")
    from npmnv2.kernels.host.engine import numba_engine

    from npmnv2.backends.compiled import CompiledBackend
    from npmnv2.network.architecture import classifier

    plan = classifier(CONFIGS["0.35"])
    weights, x = folded_weights(plan), images(3)
    expected = CompiledBackend(numba_engine()).compile(plan, weights, 2)(x, plan.endpoints)
    engine = numba_engine(target)._replace(processor=Processor(half_width=True))
    found = CompiledBackend(engine).compile(plan, weights, 2)(x, plan.endpoints)
    for endpoint in plan.endpoints:
        np.testing.assert_array_equal(found[endpoint], expected[endpoint], endpoint)


WITHOUT_COMPILER = """
import importlib, pkgutil, sys
sys.modules["numba"] = sys.modules["llvmlite"] = None  # importing them fails

import numpy as np
from npmnv2.kernels import host
for module in pkgutil.iter_modules(host.__path__, f"{host.__name__}."):
    importlib.import_module(module.name)

from npmnv2.kernels.host.build import Builder
from npmnv2.kernels.host.memory import Constants
from npmnv2.kernels.host.target import Target
for target in (Target(16, 32), Target(8, 16)):
    build, weights = Builder(target), Constants()
    packed = build.pack_product(weights, np.ones((3, 24), np.float32), np.zeros(24, np.float32))
    step = build.pointwise(build.resident(0, 5, 5, 3), build.resident(4096, 5, 5, 24), packed)
    program = build.assemble([step], [])
    print(program.target.lanes, program.steps["product"]["vectors"][0])
"""


def test_the_host_half_builds_programs_without_a_compiler() -> None:
    lines = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert lines == ["16 2", "8 3"]
