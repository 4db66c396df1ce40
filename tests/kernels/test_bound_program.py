"""The memory that programs of one network share."""

from __future__ import annotations

import weakref

from npmnv2.kernels.host.bound_program import Workspace


def test_a_block_serves_until_a_call_needs_more() -> None:
    workspace = Workspace(1)
    first = workspace.reserve(1000)
    assert workspace.reserve(600) is first
    assert workspace.reserve(1001).nbytes == 1001


def test_a_larger_block_replaces_the_smaller_one() -> None:
    workspace = Workspace(1)
    first = weakref.ref(workspace.reserve(1000).base)
    workspace.reserve(2000)
    assert first() is None


def test_a_block_shrinks_when_nothing_large_was_asked_for_in_a_while() -> None:
    workspace = Workspace(1)
    workspace.reserve(1000)
    sizes = [workspace.reserve(100).nbytes for _ in range(16)]
    assert sizes == 15 * [1000] + [100]


def test_a_block_stays_while_sizes_take_turns() -> None:
    workspace = Workspace(1)
    blocks = [workspace.reserve(size) for size in (1000, 100, 300) * 10]
    assert all(block is blocks[0] for block in blocks)


def test_a_block_that_has_settled_still_grows_and_shrinks() -> None:
    workspace = Workspace(1)
    settled = [workspace.reserve(100) for _ in range(40)]
    assert all(block is settled[0] for block in settled)
    assert workspace.reserve(1000).nbytes == 1000
    sizes = [workspace.reserve(100).nbytes for _ in range(16)]
    assert sizes == 15 * [1000] + [100]
