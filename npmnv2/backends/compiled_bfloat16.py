"""bfloat16 with compiled kernels: what `compiled` is for float32, bit for bit the results of NumPy's reference."""

from __future__ import annotations

from npmnv2.backends.bfloat16 import Bfloat16Executable, last_values
from npmnv2.backends.compiled import CompiledBackend, CompiledExecutable, only_for_numpy
from npmnv2.backends.interface import Weights
from npmnv2.backends.packed_weights import PackedWeights
from npmnv2.backends.partition import Subgraph, is_compiled
from npmnv2.kernels import Array, bfloat16
from npmnv2.kernels.host.bfloat16_build import Bfloat16Builder
from npmnv2.kernels.host.build import Builder
from npmnv2.kernels.host.cpus import default_threads
from npmnv2.kernels.host.processor import Processor
from npmnv2.kernels.host.target import Target
from npmnv2.network.layers import Conv, Dense
from npmnv2.network.plan import IMAGE, Part, Plan


class CompiledBfloat16Backend(CompiledBackend):
    """Compiled kernels on bfloat16; the same bits for any batch and number of threads.

    Parameters
    ----------
    engine : Engine
        What runs them: the package's library, or Numba.
    """

    def compile(self, plan: Plan, weights: Weights, n_threads: int | None = None) -> CompiledExecutable:
        """Pack the folded weights of `plan`; threads are all CPUs that this process may use if not given."""
        packed = PackedBfloat16(plan, weights, self.engine.target, self.engine.processor)
        fallback = Bfloat16Executable(plan, only_for_numpy(plan, weights, packed))
        return _CompiledBfloat16Executable(plan, packed, fallback, default_threads(n_threads), self.engine)


class PackedBfloat16(PackedWeights):
    """Packed weights by the name of their node, those of products as bfloat16."""

    def __init__(self, plan: Plan, weights: Weights, target: Target, processor: Processor | None = None) -> None:
        self.exact = last_values(plan)
        self._inputs = {name: shape[-2] for name, shape in plan.parameter_shapes().items() if len(shape) > 1}
        super().__init__(plan, weights, target, processor)

    def _builder(self, target: Target, processor: Processor | None) -> Builder:
        return Bfloat16Builder(target, processor)

    def _covers(self, part: Part) -> bool:
        """Whether kernels cover a part: products take two channels at once, and the image is for full convolutions."""
        layer = part.layer
        if IMAGE in part.inputs:
            return is_compiled(layer) and isinstance(layer, Conv) and max(layer.kernel, layer.stride) > 1
        if isinstance(layer, (Conv, Dense)) and self._inputs[f"{part.name}/kernel"] % 2:
            return False
        return is_compiled(layer)


class _CompiledBfloat16Executable(CompiledExecutable):
    def _apply_function(self, subgraph: Subgraph, values: dict[str, Array]) -> None:
        super()._apply_function(subgraph, values)
        name = subgraph.nodes[-1].name
        if subgraph.function is not None and name not in self._weights.exact:
            values[name] = bfloat16.round_to_bfloat16(values[name])
