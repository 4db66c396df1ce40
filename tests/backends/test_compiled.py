"""The compiled backend: whole networks against NumPy in float64, and bit for bit against themselves.

Each network is small, but wide enough for every kind of tile, strips, blocks of columns and epilogues.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pytest
from engines import require_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CONFIGS, compiled_network, folded_weights, images

from npmnv2.backends import compiled
from npmnv2.backends.compiled import CompiledBackend
from npmnv2.backends.numpy import NumpyBackend, NumpyExecutable
from npmnv2.network.architecture import backbone, classifier
from npmnv2.network.config import MobileNetV2Config
from npmnv2.network.layers import Depthwise
from npmnv2.network.plan import Plan

ENGINE = require_engine()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_endpoint_agrees_with_numpy_in_float64(name: str) -> None:
    plan, executable = compiled_network(name)
    x = images(2)
    weights = {key: value.astype(np.float64) for key, value in folded_weights(plan).items()}
    reference = NumpyBackend().compile(plan, weights)(x.astype(np.float64), plan.endpoints)
    for endpoint, value in executable(x, plan.endpoints).items():
        assert value.shape == reference[endpoint].shape
        # 53 layers deep; each rounds at 2⁻²⁴ of its largest values, and its neighbors amplify that a little.
        limit = 2.0**-24 * 4000 * np.abs(reference[endpoint]).max()
        assert np.abs(value - reference[endpoint]).max() < limit, endpoint


@pytest.mark.parametrize("name", CONFIGS)
def test_fused_and_unfused_have_the_same_bits(name: str) -> None:
    plan, executable = compiled_network(name)
    x = images(1)
    opened = executable(x, plan.endpoints)
    for node in plan.nodes:
        np.testing.assert_array_equal(executable(x, [node.name])[node.name], opened[node.name], node.name)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_batch_and_threads_do_not_change_a_bit(n_threads: int) -> None:
    x = images(32)
    _, executable = compiled_network("0.35", n_threads)
    names = ["predictions", "global_average_pooling2d", "block_12"]
    _, alone = compiled_network("0.35")
    for start, stop in [(0, 1), (3, 10), (0, 32)]:
        together = executable(x[start:stop], names)
        for image in {start, stop - 1}:
            expected = alone(x[image : image + 1], names)
            for endpoint in names:
                np.testing.assert_array_equal(together[endpoint][image - start], expected[endpoint][0])


@given(st.integers(32, 90), st.integers(32, 90), st.sampled_from([1, 2, 5]))
@settings(max_examples=8)
def test_any_size_of_image(height: int, width: int, n_threads: int) -> None:
    plan, executable = compiled_network("0.35", n_threads)
    x = images(1, height, width)
    reference = NumpyBackend().compile(plan, folded_weights(plan))(x, ["predictions"])["predictions"]
    comp = executable(x, ["predictions"])["predictions"]
    np.testing.assert_allclose(comp, reference, atol=2.0**-24 * 8000 * np.abs(reference).max())


FUNCTIONS = ["hardswish", "gelu", "silu", "tanh", "leaky_relu", "mish", lambda x: np.where(x > 1, 2 - x, x)]


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_functions_as_activations(function) -> None:
    """Layers run compiled, without a clip; the function follows. Batch, threads and endpoints change no bit."""
    plan = classifier(MobileNetV2Config(depth_multiplier=0.35, num_labels=3, hidden_act=function))
    weights = folded_weights(plan)
    x = images(5, 50, 40)
    executable = CompiledBackend(ENGINE).compile(plan, weights, 1)
    found = executable(x, plan.endpoints)
    double = {name: weight.astype(np.float64) for name, weight in weights.items()}
    expected = NumpyBackend().compile(plan, double)(x.astype(np.float64), plan.endpoints)
    for name, value in found.items():
        assert value.dtype == np.float32
        limit = 2.0**-24 * 4000 * np.abs(expected[name]).max()
        assert np.abs(value - expected[name]).max() < limit, name
    names = ["predictions", "block_3", "block_5_depthwise", "Conv1"]
    for n_threads, start, stop in [(1, 0, 1), (2, 1, 5), (3, 2, 4)]:
        again = CompiledBackend(ENGINE).compile(plan, weights, n_threads)(x[start:stop], names)
        for name in names:
            np.testing.assert_array_equal(again[name], found[name][start:stop], name)


def test_numpy_runs_nothing_but_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NumpyExecutable, "evaluate", lambda *_: pytest.fail("a layer ran on NumPy"))
    plan = classifier(MobileNetV2Config(depth_multiplier=0.35, num_labels=3, hidden_act="hardswish"))
    executable = CompiledBackend(ENGINE).compile(plan, folded_weights(plan), 1)
    executable(images(2), ["predictions", "block_3"])
    timings = executable.profile(images(1), ["predictions"])
    assert sum(t.multiply_adds for t in timings) == plan.multiply_adds(71, 65)
    assert [t.name for t in timings][:4] == [
        "Conv1",
        "expanded_conv_depthwise",
        "expanded_conv_project",
        "block_1_expand",
    ]


def test_maps_between_programs_are_freed_once_nothing_reads_them() -> None:
    seen: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def function(x: np.ndarray) -> np.ndarray:
        seen.append(weakref.ref(x.base))
        alive.append(sum(reference() is not None for reference in seen))
        return np.maximum(x, 0)

    plan = classifier(CONFIGS["0.35"].replace(hidden_act=function))
    executable = CompiledBackend(ENGINE).compile(plan, folded_weights(plan), 1)
    executable(images(1), ["predictions"])
    assert len(alive) == 35, "two of every block but the first, which has one, the stem and the last convolution"
    assert max(alive) <= 2, "a new map and the one it was made from"
    seen.clear()
    alive.clear()
    executable(images(1), ["predictions", "block_1_expand"])
    assert max(alive) == 3, "a map that was asked for stays"


def test_profiling_applies_functions_once() -> None:
    """The steps of a profile run on the same values as a call's."""
    seen: list[float] = []

    def function(x: np.ndarray) -> np.ndarray:
        seen.append(float(np.abs(x).max()))
        return 0.5 * x

    plan = classifier(CONFIGS["0.35"].replace(hidden_act=function))
    executable = CompiledBackend(ENGINE).compile(plan, folded_weights(plan), 1)
    executable(images(1), ["predictions"])
    expected = list(seen)
    executable.profile(images(1), ["predictions"])
    assert seen == [*expected, *expected, *[value for value in expected for _ in range(2)]]


def test_a_profile_counts_the_time_of_functions_and_of_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def function(x: np.ndarray) -> np.ndarray:
        clock[0] += 1
        return np.maximum(x, 0)

    plan = classifier(CONFIGS["0.35"].replace(hidden_act=function))
    executable = CompiledBackend(ENGINE).compile(plan, folded_weights(plan), 1)
    executable(images(1), ["block_1"])
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    # Functions take whole seconds on this clock, kernels milliseconds on the processor's.
    seconds = {timing.name: int(timing.seconds) for timing in executable.profile(images(3), ["block_1"])}
    assert seconds == {
        "Conv1": 3, "expanded_conv_depthwise": 3, "expanded_conv_project": 0, "block_1_expand": 3,
        "block_1_depthwise": 3, "block_1_project": 0,
    }  # fmt: skip


def test_layers_that_no_kernel_covers_run_on_numpy_in_between() -> None:
    plan = classifier(CONFIGS["0.35"])
    wide = Depthwise(kernel=5, activation="hardswish")
    plan = Plan(tuple(n._replace(layer=wide) if n.name in ("block_2", "block_5") else n for n in plan.nodes))
    weights = folded_weights(plan)
    names = ["predictions", "block_2", "block_3"]
    expected = NumpyBackend().compile(plan, weights)(images(2), names)
    found = CompiledBackend(ENGINE).compile(plan, weights, 2)(images(2), names)
    for name in names:
        limit = 2.0**-24 * 4000 * np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=limit)


def test_no_images_give_no_rows() -> None:
    _, executable = compiled_network("0.35")
    assert executable(images(0), ["predictions"])["predictions"].shape == (0, 17)


def test_profile_names_every_node_and_counts_its_work() -> None:
    plan, executable = compiled_network("0.35", 2)
    timings = executable.profile(images(1), ["predictions"])
    # The first convolution runs inside the first block.
    assert timings[0].name == "Conv1 + expanded_conv"
    assert " + ".join(t.name for t in timings).split(" + ") == [node.name for node in plan.nodes]
    assert sum(t.multiply_adds for t in timings) == plan.multiply_adds(71, 65)
    assert all(t.seconds > 0 for t in timings)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_profile_tells_how_busy_every_thread_was(n_threads: int) -> None:
    _, executable = compiled_network("0.35", n_threads)
    for timing in executable.profile(images(2), ["predictions"]):
        assert 1 <= len(timing.busy) <= n_threads  # fewer where the system has no more threads
        assert 0 < max(timing.busy) <= timing.seconds
    if n_threads == 1:
        assert all(sum(timing.busy) > 0.2 * timing.seconds for timing in executable.profile(images(1), ["block_3"]))


def test_profile_counts_the_work_of_a_whole_batch_and_of_opened_blocks() -> None:
    plan, executable = compiled_network("0.35")
    for outputs in (["predictions"], ["predictions", "block_3_expand", "expanded_conv"]):
        one, three = (executable.profile(images(count), outputs) for count in (1, 3))
        assert [t.name for t in three] == [t.name for t in one]
        assert [t.multiply_adds for t in three] == [3 * t.multiply_adds for t in one]
        assert sum(t.multiply_adds for t in one) == plan.multiply_adds(71, 65)


def test_weights_are_kept_packed_only() -> None:
    plan = classifier(CONFIGS["0.35"])
    nodes = tuple(n._replace(layer=Depthwise(kernel=5)) if n.name == "block_3" else n for n in plan.nodes)
    weights = folded_weights(Plan(nodes))
    kept = {name: weakref.ref(array) for name, array in weights.items()}
    executable = CompiledBackend(ENGINE).compile(Plan(nodes), weights, 1)
    del weights
    assert {name for name, array in kept.items() if array() is not None} == {"block_3/kernel", "block_3/bias"}
    assert np.isfinite(executable(images(1), ["predictions"])["predictions"]).all()


@pytest.mark.parametrize("backend", [NumpyBackend(), CompiledBackend(ENGINE)], ids=lambda backend: backend.name)
def test_an_endpoint_before_a_pool_runs_on_images_too_small_for_its_window(backend) -> None:
    plan = classifier(CONFIGS["0.35"].replace(pooling_window=7))
    executable = backend.compile(plan, folded_weights(plan))
    assert executable(images(1), ["block_16"])["block_16"].shape == (1, 3, 3, 112)
    assert [t.name for t in executable.profile(images(1), ["block_3"])][-1] == "block_3"
    for run in (executable, executable.profile):
        with pytest.raises(ValueError, match=r"pooling_window \(=7\) must not be larger .* got a map of 3×3"):
            run(images(1), ["predictions"])


def test_programs_used_longest_ago_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, _ = compiled_network("0.35")
    executable = CompiledBackend(ENGINE).compile(plan, folded_weights(plan), 1)
    sizes = [(40, 40), (40, 48), (48, 40)]
    x = {size: images(1, *size) for size in sizes}
    first = executable(x[40, 40], ["block_2"])["block_2"]
    executable(x[40, 48], ["block_2"])
    kept = sum(program.nbytes for program in executable._programs.values())
    monkeypatch.setattr(compiled, "_MAX_PROGRAM_BYTES", kept)
    executable(x[40, 40], ["block_2"])
    executable(x[48, 40], ["block_2"])
    assert [shape[:2] for shape, *_ in executable._programs] == [(40, 40), (48, 40)]
    monkeypatch.setattr(compiled, "_MAX_PROGRAM_BYTES", 0)
    np.testing.assert_array_equal(executable(x[40, 40], ["block_2"])["block_2"], first)
    assert len(executable._programs) == 1


def test_a_program_for_whole_images_and_one_whose_steps_are_shared() -> None:
    plan, _ = compiled_network("0.35")
    executable = CompiledBackend(ENGINE).compile(plan, folded_weights(plan), 2)
    found = [executable(images(count), ["predictions"])["predictions"] for count in (1, 2, 3, 1)]
    assert [workers for *_, workers in executable._programs] == [1, 2]
    assert all(np.array_equal(found[0][0], each[0]) for each in found)


def test_results_do_not_share_memory_with_later_calls() -> None:
    _, executable = compiled_network("0.35")
    first = executable(images(1), ["predictions"])["predictions"]
    kept = first.copy()
    executable(-images(1), ["predictions"])
    np.testing.assert_array_equal(first, kept)


def test_memory_stays_as_it_is_over_many_calls() -> None:
    """Counted by Python's allocators, NumPy's arrays among them: the system's own figure moves by chance."""
    _, executable = compiled_network("0.35", 2)
    x, calls = images(1), 1000
    for _ in range(20):
        executable(x, ["predictions"])
    tracemalloc.start()
    try:
        executable(x, ["predictions"])
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(calls):
            executable(x, ["predictions"])
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    logits = 4 * CONFIGS["0.35"].num_labels
    assert grown < calls * logits / 4, "not even a quarter of its smallest array stays from each call"


# ---- Processors ------------------------------------------------------------------------------------------------------

# The widths that targets name are compared in tests/kernels/test_target.py. This processor has no FMA, either.
PROCESSOR, LANES = "nehalem", 4


def digest() -> str:
    """All bits of all endpoints of a network."""
    plan, executable = compiled_network("0.35", 2)
    found = executable(images(2), plan.endpoints)
    return hashlib.sha256(b"".join(found[name].tobytes() for name in plan.endpoints)).hexdigest()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin" or os.uname().machine != "x86_64", reason="names processors of x86-64")
def test_another_processor_does_not_change_a_bit() -> None:
    script = "import test_compiled; print(test_compiled.ENGINE.target.lanes, test_compiled.digest())"
    environment = {**os.environ, "NPMNV2_ENGINE": "numba", "NUMBA_CPU_NAME": PROCESSOR, "NUMBA_CPU_FEATURES": ""}
    folders = [*map(str, Path(__file__).parents[:2]), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(folders)
    output = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    ).stdout.split()
    assert output == [str(LANES), digest()]


def test_backbone_alone_runs_too() -> None:
    plan = backbone(CONFIGS["0.35"])
    assert CompiledBackend(ENGINE).compile(plan, folded_weights(plan), 1)(images(1), ["Conv_1"])["Conv_1"].shape == (
        1,
        3,
        3,
        1280,
    )
