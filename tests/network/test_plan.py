"""The plan: schedules, names, shapes."""

from __future__ import annotations

import pytest

from npmnv2 import MobileNetV2Config
from npmnv2.network.architecture import classifier
from npmnv2.network.plan import Plan, multiply_adds, parts_of


@pytest.fixture(scope="module")
def plan() -> Plan:
    return classifier(MobileNetV2Config(num_labels=1001))


def test_the_schedule_ends_with_what_was_asked_for(plan: Plan) -> None:
    schedule = plan.schedule(["layer_15/expansion_output", "block_3"])
    names = [node.name for node in schedule.nodes]
    assert names[-1] == "block_13_expand"
    assert "block_12" in names
    assert "block_13" not in names
    assert schedule.results == {"layer_15/expansion_output": "block_13_expand", "block_3": "block_3"}


def test_blocks_open_only_where_something_inside_is_wanted(plan: Plan) -> None:
    names = [node.name for node in plan.schedule(["predictions", "block_2_depthwise"]).nodes]
    assert [n for n in names if n.startswith("block_2_")] == [
        f"block_2_{p}" for p in ("expand", "depthwise", "project", "add")
    ]
    assert "block_2" not in names
    assert names[-1] == "predictions"
    assert "block_1_expand" not in names


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("layer_1", "Conv1"), ("layer_2", "expanded_conv"), ("layer_4/depthwise_output", "block_2_depthwise"),
        ("layer_18", "block_16"), ("layer_19", "Conv_1"), ("out_relu", "Conv_1"),
        ("global_pool", "global_average_pooling2d"),
        ("block_1_expand_relu", "block_1_expand"), ("block_16_project_BN", "block_16_project"),
        ("Logits", "predictions"), ("layer_15/projection_output", "block_13_project"), ("layer_7/output", "block_5"),
    ],
)  # fmt: skip
def test_names_of_keras_and_slim(plan: Plan, alias: str, name: str) -> None:
    assert plan.resolve(alias) == name


def test_last_part_of_a_block_is_the_block(plan: Plan) -> None:
    assert plan.schedule(["block_2_add"]).results == {"block_2_add": "block_2"}
    assert plan.schedule(["block_1_project"]).results == {"block_1_project": "block_1"}
    assert plan.schedule(["block_2_project", "block_2"]).results["block_2"] == "block_2_add"


def test_unknown_endpoint_names_the_nearest(plan: Plan) -> None:
    with pytest.raises(
        ValueError, match=r"endpoint \(='block_13_expnd'\) must be one of .* did you mean block_13_expand"
    ):
        plan.schedule(["block_13_expnd"])


def test_every_value_is_known_by_its_last_use(plan: Plan) -> None:
    """Within an open block the input is read twice: by the expansion and, three nodes later, by the addition."""
    schedule = plan.schedule(["predictions", "block_2_depthwise"])
    position = {node.name: at for at, node in enumerate(schedule.nodes)}
    uses = schedule.last_uses()
    assert uses["image"] == 0
    assert uses["block_1"] == position["block_2_add"] == position["block_2_expand"] + 3
    assert uses["block_2_expand"] == position["block_2_depthwise"]
    assert uses["block_2_project"] == position["block_2_add"]
    assert uses["block_2_add"] == position["block_3"]
    assert "predictions" not in uses


def test_values_have_one_name_in_a_schedule(plan: Plan) -> None:
    """The last part of a block and the block are one value: whoever reads it reads the name that is made."""
    for outputs in (["block_2"], ["block_2_add"], ["block_2_expand"], ["block_2_project", "block_2", "block_4_expand"]):
        schedule = plan.schedule([*outputs, "predictions"])
        made = {"image"}
        for node in schedule.nodes:
            assert made.issuperset(node.inputs), f"{node.name} reads what is not made yet"
            assert node.name not in made
            made.add(node.name)
        assert made.issuperset(schedule.results.values())


def test_shapes_of_a_schedule_are_those_of_the_plan(plan: Plan) -> None:
    shapes = plan.shapes(65, 97)
    schedule = plan.schedule(["block_2_project", "block_5", "predictions"])
    found = schedule.shapes((65, 97, 3))
    assert found == {name: shapes[name] for name in found}
    assert sum(multiply_adds(node, found) for node in schedule.nodes) == plan.multiply_adds(65, 97)


def test_a_schedule_that_ends_before_the_pool_needs_no_room_for_its_window() -> None:
    plan = classifier(MobileNetV2Config(pooling_window=7))
    assert plan.schedule(["block_16"]).shapes((32, 32, 3))["block_16"] == (1, 1, 320)
    with pytest.raises(ValueError, match=r"pooling_window \(=7\) must not be larger than the feature map"):
        plan.schedule(["predictions"]).shapes((32, 32, 3))


@pytest.mark.parametrize("window", [1, 7, 33, 1000])
def test_parameters_do_not_depend_on_the_pooling_window(window: int) -> None:
    assert (
        classifier(MobileNetV2Config(pooling_window=window)).parameter_shapes()
        == classifier(MobileNetV2Config()).parameter_shapes()
    )


def test_a_plan_cut_off_knows_only_its_own_aliases(plan: Plan) -> None:
    short = plan.until("block_16")
    assert short.nodes == plan.nodes[:18]
    assert short.resolve("layer_18") == "block_16"
    for gone in ("Conv_1", "layer_19", "Logits"):
        with pytest.raises(ValueError, match="endpoint"):
            short.resolve(gone)


def test_repr_is_short(plan: Plan) -> None:
    assert repr(plan) == "<Plan of 21 nodes from Conv1 to predictions, 3 channels in>"
    assert repr(Plan(())) == "<Plan of 0 nodes, 3 channels in>"


def test_parts_carry_their_blocks_name(plan: Plan) -> None:
    block = next(node for node in plan.nodes if node.name == "block_2")
    assert [(part.name, part.inputs) for part in parts_of(block)] == [
        ("block_2_expand", ("block_1",)),
        ("block_2_depthwise", ("block_2_expand",)),
        ("block_2_project", ("block_2_depthwise",)),
        ("block_2_add", ("block_2_project", "block_1")),
    ]
    assert parts_of(plan.nodes[0]) == (plan.nodes[0],)
