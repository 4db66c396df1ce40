"""transformers' PyTorch models as outside judges: every switch of the configuration, hidden states and losses."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest
from engines import BACKENDS

from npmnv2 import MobileNetV2ForImageClassification, MobileNetV2Model
from npmnv2.network.activations import NAMES, activation
from npmnv2.weights_tools import read

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def lively(module, seed):
    """Random weights that keep activations alive through all blocks: unit gain, and batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d):
            inputs = part.weight[0].numel()
            torch.nn.init.normal_(part.weight, std=(1.5 / inputs) ** 0.5, generator=generator)
        elif isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.7, 1.3, generator=generator)
            torch.nn.init.normal_(part.bias, 0.3, 0.3, generator=generator)
            torch.nn.init.normal_(part.running_mean, 0, 0.2, generator=generator)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5, generator=generator)
        elif isinstance(part, torch.nn.Linear):
            torch.nn.init.normal_(part.weight, std=0.1, generator=generator)
            torch.nn.init.normal_(part.bias, std=0.5, generator=generator)
    return module.eval()


@pytest.fixture
def pair(tmp_path):
    """A factory: the model of transformers, and ours with the weights that transformers saved."""

    def make(kind="ForImageClassification", seed=0, **config):
        reference = getattr(transformers, f"MobileNetV2{kind}")(transformers.MobileNetV2Config(**config))
        with torch.no_grad():
            lively(reference, seed)
        reference.save_pretrained(tmp_path)
        ours = {"ForImageClassification": MobileNetV2ForImageClassification, "Model": MobileNetV2Model}[kind]
        return reference, ours.from_checkpoint(read(tmp_path), backend="numpy")

    return make


def pixels(size, channels=3, batch=2):
    return np.random.default_rng(1).uniform(-1, 1, (batch, channels, *size)).astype(np.float32)


def run(reference, x, **options):
    with torch.no_grad():
        return reference(torch.tensor(x), **options)


def assert_close(comp, ref, name="logits"):
    ref = ref.numpy()
    assert comp.shape == ref.shape, name
    assert comp.dtype == np.float32, name
    assert np.ptp(ref) > 1e-2, f"{name}: a dead network would agree as well"
    npt.assert_allclose(comp, ref, rtol=0, atol=1e-4 * max(1, np.abs(ref).max()), err_msg=name)


@pytest.mark.parametrize("size", [(65, 96), (97, 33)], ids=["65x96", "97x33"])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tf_padding": False},
        {"output_stride": 16},
        {"output_stride": 8},
        {"output_stride": 8, "tf_padding": False},
        {"output_stride": 4},
        {"first_layer_is_expansion": False},
        {"finegrained_output": False},
        {"depth_multiplier": 1.1, "depth_divisible_by": 4, "min_depth": 16, "expand_ratio": 3.5},
        {"layer_norm_eps": 0.3},
        {"hidden_act": "hardswish"},
        {"num_channels": 1},
        {"num_channels": 5, "num_labels": 1},
    ],
    ids=lambda config: ",".join(f"{key}={value}" for key, value in config.items()) or "defaults",
)
def test_logits_and_hidden_states(pair, config, size):
    config = {"depth_multiplier": 0.35, "num_labels": 11, **config}
    reference, model = pair(**config)
    x = pixels(size, config.get("num_channels", 3))
    ref = run(reference, x, output_hidden_states=True)
    for backend in BACKENDS:
        comp = MobileNetV2ForImageClassification(model.config, model.weights, backend=backend)(
            x, output_hidden_states=True
        )
        assert_close(comp.logits, ref.logits, f"{backend}: logits")
        assert len(comp.hidden_states) == len(ref.hidden_states) == 16
        for at, (ours, theirs) in enumerate(zip(comp.hidden_states, ref.hidden_states)):
            assert_close(ours, theirs, f"{backend}: hidden state {at}")


@pytest.mark.parametrize("multiplier", [0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
def test_multipliers(pair, multiplier):
    reference, model = pair(depth_multiplier=multiplier, num_labels=11)
    x = pixels((64, 51))
    assert_close(model(x).logits, run(reference, x).logits)


@pytest.mark.parametrize("tf_padding", [True, False])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 40)])
def test_base_model(pair, size, tf_padding):
    reference, model = pair("Model", depth_multiplier=0.35, tf_padding=tf_padding)
    x = pixels(size)
    ref, comp = run(reference, x), model(x)
    assert list(comp.keys()) == list(ref.keys())
    for name in ref:
        assert_close(comp[name], ref[name], name)
    plain = model(x, return_dict=False)
    assert len(plain) == len(run(reference, x, return_dict=False)) == 2
    npt.assert_array_equal(plain[1], comp.pooler_output)


def test_layouts_and_chosen_hidden_states(pair):
    reference, model = pair("Model", depth_multiplier=0.35)
    x = pixels((40, 57))
    ref = run(reference, x, output_hidden_states=True).hidden_states
    comp = model(x, output_hidden_states=[2, -1]).hidden_states
    assert len(comp) == 2
    assert_close(comp[0], ref[2])
    assert_close(comp[1], ref[15])
    last = model(x.transpose(0, 2, 3, 1), output_hidden_states=[2], data_format="channels_last").hidden_states
    npt.assert_array_equal(last[0].transpose(0, 3, 1, 2), comp[0])


CLASSES, BATCH = 5, 4
_rng = np.random.default_rng(2)


REGRESSION, ONE_LABEL, LABELS = "regression", "single_label_classification", "multi_label_classification"


@pytest.mark.parametrize(
    ("problem_type", "num_labels", "labels"),
    [
        (None, 1, _rng.normal(size=BATCH).astype(np.float32)),
        (REGRESSION, 1, _rng.normal(size=(BATCH, 1)).astype(np.float32)),
        (REGRESSION, CLASSES, _rng.normal(size=(BATCH, CLASSES)).astype(np.float32)),
        (None, CLASSES, np.array([0, 4, 2, 2])),
        (ONE_LABEL, CLASSES, np.array([0, -100, 2, -100])),
        (None, CLASSES, (_rng.random((BATCH, CLASSES)) > 0.5).astype(np.float32)),
        (LABELS, CLASSES, (_rng.random((BATCH, CLASSES)) > 0.5).astype(np.float32)),
    ],
)
def test_losses(pair, problem_type, num_labels, labels):
    stated = {"problem_type": problem_type} if problem_type else {}
    reference, model = pair(depth_multiplier=0.35, num_labels=num_labels, **stated)
    x = pixels((32, 32), batch=BATCH)
    ref = run(reference, x, labels=torch.tensor(labels))
    comp = model(x, labels=labels)
    npt.assert_allclose(comp.loss, ref.loss.item(), rtol=1e-4)
    plain = model(x, labels=labels, return_dict=False)
    assert len(plain) == len(run(reference, x, labels=torch.tensor(labels), return_dict=False)) == 2
    assert plain[0] == comp.loss


def test_no_labels_at_all(pair):
    reference, backbone = pair("Model", depth_multiplier=0.35)
    model = MobileNetV2ForImageClassification(backbone.config.replace(num_labels=0), backbone.weights)
    x = pixels((33, 40))
    assert_close(model(x).logits, run(reference, x).pooler_output)


def test_activation_names_are_those_of_transformers():
    from transformers.activations import ACT2CLS

    with_parameters = {"prelu", "xielu"}  # these have weights of their own, which the configuration cannot hold
    assert set(ACT2CLS) - with_parameters <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_activations(name):
    from transformers.activations import ACT2FN

    x = np.concatenate([np.linspace(-30, 30, 401), [-1e4, -200, 200, 1e4]]).astype(np.float32)
    clip, function = activation(name)
    comp = np.clip(x, *clip) if function is None else function(x)
    assert comp.dtype == np.float32
    npt.assert_allclose(comp, ACT2FN[name](torch.tensor(x)).numpy(), rtol=1e-5, atol=2e-6)
