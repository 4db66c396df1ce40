"""From a subgraph to a program of compiled kernels, for one size of input and set of outputs.

Three passes: `fusion` decides what runs as one, `emission` turns it into instructions, `allocation` finds a place in
memory for every value. To add a kind of layer, say in `partition.is_compiled` when kernels cover it, and add a function
to `emission.EMITTERS`; to run several nodes as one, add a rule to `fusion.RULES`; for another kind of memory, a
`Storage`.
"""

from __future__ import annotations

from collections.abc import Mapping

from npmnv2.backends.allocation import allocate
from npmnv2.backends.emission import Emitter
from npmnv2.backends.fusion import fuse
from npmnv2.backends.packed_weights import PackedWeights
from npmnv2.backends.partition import Subgraph
from npmnv2.kernels.host.build import Program
from npmnv2.network.layers import Shape


def lower(
    subgraph: Subgraph, shapes: Mapping[str, Shape], weights: PackedWeights, n_workers: int,
    emitter_type: type[Emitter] = Emitter,
) -> Program:  # fmt: skip
    """Lower a subgraph that compiled kernels cover.

    Parameters
    ----------
    subgraph : Subgraph
    shapes : mapping of str to (height, width, channels)
        Of all values.
    weights : PackedWeights
    n_workers : int
        Those that share a step.
    emitter_type : type of Emitter
        That of the weights' kind of numbers.
    """
    emitter = emitter_type(subgraph, shapes, weights, n_workers)
    emitter.run(fuse(subgraph.nodes, subgraph.outputs, weights.build.target, emitter_type.rules))
    allocation = allocate(emitter.instructions, (*subgraph.inputs, *subgraph.outputs), weights.build, n_workers)
    per_image = [instruction for instruction in emitter.instructions if not instruction.batched]
    per_batch = [instruction for instruction in emitter.instructions if instruction.batched]
    return weights.build.assemble(
        [allocation.step(instruction) for instruction in per_image],
        [allocation.step(instruction) for instruction in per_batch],
        arena_bytes=allocation.arena_bytes,
        batch_bytes=allocation.batch_bytes,
        names=tuple(instruction.label for instruction in (*per_image, *per_batch)),
    )
