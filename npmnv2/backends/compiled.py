"""The Numba backend: runs plans as programs of compiled kernels (see `lowering` and kernels/README.md)."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from npmnv2.backends.fusion import SEPARATOR
from npmnv2.backends.interface import Weights
from npmnv2.backends.lowering import lower
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.backends.packed_weights import PackedWeights
from npmnv2.backends.partition import Subgraph, is_compiled, partition
from npmnv2.kernels import Array
from npmnv2.kernels.device.probe import host_target
from npmnv2.kernels.device.threads import default_threads
from npmnv2.kernels.host.run import BoundProgram, Workspace
from npmnv2.kernels.host.target import Target
from npmnv2.network.layers import Shape
from npmnv2.network.plan import IMAGE, Plan, Schedule, parts_of
from npmnv2.results.profile import Timing

# Programs for so many input sizes and sets of outputs are kept; the oldest goes first.
_KEPT_PROGRAMS = 16


class NumbaBackend:
    """Compiled kernels: float32, the same bits for any batch, number of threads and vector width."""

    name = "numba"

    def compile(
        self, plan: Plan, weights: Weights, n_threads: int | None = None, target: Target | None = None
    ) -> NumbaExecutable:
        """Pack the folded weights of `plan`.

        Threads are all CPUs that this process may use if not given; the target is this processor.
        """
        return NumbaExecutable(plan, weights, default_threads(n_threads), target or host_target())


class CompiledSubgraph(NamedTuple):
    """A subgraph, and what runs it: nothing where NumPy does."""

    subgraph: Subgraph
    program: BoundProgram | None


class ExecutionPlan(NamedTuple):
    """Everything that has to run for one input size and set of outputs."""

    stages: tuple[CompiledSubgraph, ...]
    schedule: Schedule
    shapes: dict[str, Shape]


class NumbaExecutable:
    """A network that is ready to run. Calls from several threads take turns: each has all `n_threads` to itself."""

    def __init__(self, plan: Plan, weights: Weights, n_threads: int, target: Target) -> None:
        self.plan = plan
        self.n_threads = n_threads
        self._weights = PackedWeights(plan, weights, target)
        self._numpy = NumpyExecutable(plan, _only_for_numpy(plan, weights))
        self._workspace = Workspace(n_threads)
        self._programs: dict[tuple[Shape, tuple[str, ...]], ExecutionPlan] = {}
        self._lock = threading.Lock()
        _executables.add(self)

    def __call__(self, x: Array, outputs: Sequence[str]) -> dict[str, Array]:
        """Run on `x` (N, H, W, C) as far as `outputs` need; return their values by the names that were asked for."""
        with self._lock:
            program = self._program(x.shape[1:], outputs)
            values = {IMAGE: np.ascontiguousarray(x, np.float32)}
            for stage in program.stages:
                self._run(stage, values, program.shapes)
        return {name: values[node] for name, node in program.schedule.results.items()}

    def profile(self, x: Array, outputs: Sequence[str]) -> list[Timing]:
        """Run once and tell what every node took, image by image."""
        self(x, outputs)
        with self._lock:
            program = self._program(x.shape[1:], outputs)
            seconds: dict[str, float] = {}
            for image in np.ascontiguousarray(x, np.float32):
                values = {IMAGE: image[None]}
                for stage in program.stages:
                    for name, took in self._timed(stage, values, program.shapes):
                        seconds[name] = seconds.get(name, 0.0) + took
        counts = {row.name: row.multiply_adds for row in self.plan.table(*x.shape[1:3])}
        return [
            Timing(name, took, len(x) * sum(counts.get(node, 0) for node in name.split(SEPARATOR)))
            for name, took in seconds.items()
        ]

    def _program(self, shape: Shape, outputs: Sequence[str]) -> ExecutionPlan:
        key = (shape, tuple(outputs))
        if key not in self._programs:
            if len(self._programs) == _KEPT_PROGRAMS:
                del self._programs[next(iter(self._programs))]
            self._programs[key] = self._lower(shape, outputs)
        return self._programs[key]

    def _lower(self, shape: Shape, outputs: Sequence[str]) -> ExecutionPlan:
        schedule = self.plan.schedule(outputs)
        shapes = self.plan.shapes(*shape[:2])
        return ExecutionPlan(
            tuple(self._compile(subgraph, shapes) for subgraph in partition(schedule)), schedule, shapes
        )

    def _compile(self, subgraph: Subgraph, shapes: dict[str, Shape]) -> CompiledSubgraph:
        if not subgraph.compiled:
            return CompiledSubgraph(subgraph, None)
        program = lower(subgraph, shapes, self._weights, self.n_threads)
        return CompiledSubgraph(subgraph, BoundProgram(program, self._weights.block, self._workspace))

    def _run(self, stage: CompiledSubgraph, values: dict[str, Array], shapes: dict[str, Shape]) -> None:
        """Run one stage and add its outputs to the values."""
        inputs = [values[name] for name in stage.subgraph.inputs]
        if stage.program is None:
            (node,) = stage.subgraph.nodes
            values[node.name] = np.ascontiguousarray(self._numpy.evaluate(node, *inputs), np.float32)
            return
        outputs = [np.empty((len(inputs[0]), *shapes[name]), np.float32) for name in stage.subgraph.outputs]
        if len(inputs[0]):
            stage.program(inputs, outputs)
        values.update(zip(stage.subgraph.outputs, outputs))

    def _timed(
        self, stage: CompiledSubgraph, values: dict[str, Array], shapes: dict[str, Shape]
    ) -> list[tuple[str, float]]:
        """Run one stage for one image, step by step."""
        start = time.perf_counter()
        self._run(stage, values, shapes)
        if stage.program is None:
            return [(stage.subgraph.nodes[0].name, time.perf_counter() - start)]
        inputs, outputs = ([values[name] for name in names] for names in stage.subgraph[1:3])
        timings = []
        for index, name in enumerate(stage.program.program.names):
            start = time.perf_counter()
            stage.program.single(index, inputs, outputs)
            timings.append((name, time.perf_counter() - start))
        return timings


def _only_for_numpy(plan: Plan, weights: Weights) -> Weights:
    """The weights of what compiled kernels do not cover. The others are packed by now; keeping them doubles them."""
    names = {part.name for node in plan.nodes if not is_compiled(node.layer) for part in parts_of(node)}
    return {name: array for name, array in weights.items() if name.rpartition("/")[0] in names}


_executables: weakref.WeakSet[NumbaExecutable] = weakref.WeakSet()


def _unlock_all() -> None:
    """A forked child may have copied a lock that a thread of its parent held, and that nobody will release."""
    for executable in _executables:
        executable._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_all)
