"""The compiled backend: runs plans as programs of compiled kernels (see `lowering` and kernels/README.md)."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from npmnv2.backends.emission import Emitter
from npmnv2.backends.fusion import SEPARATOR
from npmnv2.backends.interface import Weights
from npmnv2.backends.lowering import lower
from npmnv2.backends.numpy import NumpyExecutable
from npmnv2.backends.packed_weights import PackedWeights
from npmnv2.backends.partition import Subgraph, partition
from npmnv2.forks import renew_in_children
from npmnv2.kernels import Array
from npmnv2.kernels.host.bound_program import BoundProgram, Workspace
from npmnv2.kernels.host.clock import StepTime, add_times
from npmnv2.kernels.host.cpus import default_threads
from npmnv2.kernels.host.engine import Engine
from npmnv2.network.layers import Shape
from npmnv2.network.plan import IMAGE, Node, Plan, Schedule, multiply_adds, parts_of
from npmnv2.results.profile import Timing

# What the tables of programs, for several input sizes and sets of outputs, may take in all; the one that was used
# longest ago goes first.
_MAX_PROGRAM_BYTES = 8_000_000


class CompiledBackend:
    """Compiled kernels: float32, the same bits for any batch, number of threads, vector width and engine.

    A function as activation, such as tanh, runs in NumPy after its layer. Batch and threads change no bit then either,
    but a different processor may (docs/numerics.md).

    Parameters
    ----------
    engine : Engine
        What runs them: the package's library, or Numba.
    """

    name = "compiled"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def compile(self, plan: Plan, weights: Weights, n_threads: int | None = None) -> CompiledExecutable:
        """Pack the folded weights of `plan`; threads are all CPUs that this process may use if not given."""
        packed = PackedWeights(plan, weights, self.engine.target, self.engine.processor)
        fallback = NumpyExecutable(plan, only_for_numpy(plan, weights, packed))
        return CompiledExecutable(plan, packed, fallback, default_threads(n_threads), self.engine)


class CompiledSubgraph(NamedTuple):
    """A subgraph, ready to run.

    Attributes
    ----------
    subgraph : Subgraph
    program : BoundProgram or None
        None where NumPy runs it.
    last_reads : tuple of str
        Inputs that nothing needs afterwards.
    """

    subgraph: Subgraph
    program: BoundProgram | None
    last_reads: tuple[str, ...]


class ExecutionPlan(NamedTuple):
    """Everything that has to run for one input size and set of outputs."""

    stages: tuple[CompiledSubgraph, ...]
    schedule: Schedule
    shapes: dict[str, Shape]

    @property
    def nbytes(self) -> int:
        """Bytes of the tables that it keeps."""
        return sum(stage.program.nbytes for stage in self.stages if stage.program)


class Fallback(Protocol):
    """What computes the nodes that kernels do not cover."""

    def evaluate(self, node: Node, *inputs: Any) -> Any:
        """The value of one node."""


class CompiledExecutable:
    """A network that is ready to run. Calls from several threads take turns, and each uses all `n_threads`.

    Parameters
    ----------
    plan : Plan
    weights : PackedWeights
    fallback : Fallback
        Computes the nodes that kernels do not cover.
    n_threads : int
    engine : Engine
    """

    emitter: ClassVar[type[Emitter]] = Emitter

    def __init__(self, plan: Plan, weights: PackedWeights, fallback: Fallback, n_threads: int, engine: Engine) -> None:
        self.plan = plan
        self.n_threads = n_threads
        self._weights = weights
        self._dtype = np.dtype(weights.build.dtype)
        self._fallback = fallback
        self._workspace = Workspace(n_threads)
        self._programs: dict[tuple[Shape, tuple[str, ...], int], ExecutionPlan] = {}
        self._engine = engine
        self._lock = threading.Lock()
        renew_in_children(self)

    def __call__(self, x: Array, outputs: Sequence[str]) -> dict[str, Array]:
        """Run on `x` (N, H, W, C) and return the values of `outputs` by the names that were given."""
        with self._lock:
            program = self._program(x.shape, outputs)
            values = {IMAGE: self._image(x)}
            for stage in program.stages:
                self._run(stage, values, program.shapes)
                for name in stage.last_reads:
                    del values[name]
        return {name: values[node] for name, node in program.schedule.results.items()}

    def renew_after_fork(self) -> None:
        """A forked child may have copied the lock while a thread of its parent held it."""
        self._lock = threading.Lock()

    def profile(self, x: Array, outputs: Sequence[str]) -> list[Timing]:
        """Run once and measure the time of every node, image by image."""
        self(x, outputs)
        with self._lock:
            program = self._program((1, *x.shape[1:]), outputs)
            times: dict[str, list[StepTime]] = {}
            for image in self._image(x):
                values = {IMAGE: image[None]}
                for stage in program.stages:
                    for name, took in self._timed(stage, values, program.shapes):
                        times.setdefault(name, []).append(took)
        counts = {node.name: multiply_adds(node, program.shapes) for node in program.schedule.nodes}
        return [
            Timing(name, total.seconds, len(x) * sum(counts[node] for node in name.split(SEPARATOR)), total.busy)
            for name, total in ((name, add_times(steps)) for name, steps in times.items())
        ]

    def _image(self, x: Array) -> Array:
        """Images as kernels read them."""
        return np.ascontiguousarray(x, self._dtype)

    def _program(self, shape: Shape, outputs: Sequence[str]) -> ExecutionPlan:
        """What runs for images (N, H, W, C)."""
        # Whole images go to one worker each; if they are too few for that, workers share the steps.
        key = (shape[1:], tuple(outputs), 1 if shape[0] >= self.n_threads else self.n_threads)
        program = self._programs.pop(key, None) or self._lower(*key)
        self._programs[key] = program  # at the end: used last
        while len(self._programs) > 1 and sum(kept.nbytes for kept in self._programs.values()) > _MAX_PROGRAM_BYTES:
            del self._programs[next(iter(self._programs))]
        return program

    def _lower(self, shape: Shape, outputs: Sequence[str], n_workers: int) -> ExecutionPlan:
        schedule = self.plan.schedule(outputs, self._weights.must_open)
        shapes = schedule.shapes(shape)
        subgraphs = partition(schedule, self._weights.covers)
        stages = []
        for position, subgraph in enumerate(subgraphs):
            needed = {*schedule.results.values()}.union(*(later.inputs for later in subgraphs[position + 1 :]))
            last_reads = tuple(name for name in subgraph.inputs if name not in needed)
            stages.append(CompiledSubgraph(subgraph, self._program_of(subgraph, shapes, n_workers), last_reads))
        return ExecutionPlan(tuple(stages), schedule, shapes)

    def _program_of(self, subgraph: Subgraph, shapes: dict[str, Shape], n_workers: int) -> BoundProgram | None:
        if not subgraph.compiled:
            return None
        program = lower(subgraph, shapes, self._weights, n_workers, self.emitter)
        return BoundProgram(program, self._weights.block, self._workspace, self._engine)

    def _run(self, stage: CompiledSubgraph, values: dict[str, Array], shapes: dict[str, Shape]) -> None:
        """Run one stage and add its outputs to the values."""
        inputs = [values[name] for name in stage.subgraph.inputs]
        if stage.program is None:
            (node,) = stage.subgraph.nodes
            values[node.name] = np.ascontiguousarray(self._fallback.evaluate(node, *inputs), self._dtype)
            return
        batch, outputs = len(inputs[0]), []
        for name in stage.subgraph.outputs:
            values[name] = output = np.empty((batch, *shapes[name]), self._dtype)
            outputs.append(output)
        if batch:
            stage.program(inputs, outputs)
        self._apply_function(stage.subgraph, values)

    def _apply_function(self, subgraph: Subgraph, values: dict[str, Array]) -> None:
        """Apply the function that follows a subgraph, image by image: then no bit can depend on the batch."""
        if subgraph.function is not None:
            value = values[subgraph.nodes[-1].name]
            for image in range(len(value)):
                value[image : image + 1] = subgraph.function(value[image : image + 1])

    def _timed(
        self, stage: CompiledSubgraph, values: dict[str, Array], shapes: dict[str, Shape]
    ) -> list[tuple[str, StepTime]]:
        """Run one stage for one image, and tell what every step took."""
        start = time.perf_counter()
        self._run(stage, values, shapes)
        if stage.program is None:
            return [(stage.subgraph.nodes[0].name, _alone(start))]
        inputs, outputs = ([values[name] for name in names] for names in stage.subgraph[1:3])
        timings = list(zip(stage.program.program.names, stage.program.time_steps(inputs, outputs)))
        start = time.perf_counter()
        self._apply_function(stage.subgraph, values)
        timings.append((timings[-1][0], _alone(start)))
        return timings


def _alone(start: float) -> StepTime:
    """What one thread did from `start` until now."""
    seconds = time.perf_counter() - start
    return StepTime(seconds, (seconds,))


def only_for_numpy(plan: Plan, weights: Weights, packed: PackedWeights) -> Weights:
    """The weights of what compiled kernels do not cover. The others are packed by now; keeping them doubles them."""
    names = {part.name for node in plan.nodes if not packed.covers(node) for part in parts_of(node)}
    return {name: weights[name] for name in weights if name.rpartition("/")[0] in names}
