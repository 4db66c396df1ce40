"""What makes a different model for an index, and what does not."""

from __future__ import annotations

import pytest

from npmnv2 import MobileNetV2ForImageClassification, MobileNetV2ImageProcessor, load
from npmnv2.similarity.model_digest import model_digest


def changed(model, **options):
    weights = options.pop("weights", model.weights)
    config = options.pop("config", model.config)
    return MobileNetV2ForImageClassification(config, weights, **options)


def test_backend_threads_labels_and_source_do_not_count(model):
    config = model.config.replace(id2label={0: "chat", 1: "chien"})
    other = changed(model, config=config, backend="numpy", n_threads=1, source={"file": "x.h5"})
    assert model_digest(other) == model_digest(model)


def test_weights_configuration_preprocessing_and_type_count(model):
    name = next(iter(model.weights))
    others = [
        changed(model, weights={**model.weights, name: model.weights[name] * 2}),
        changed(model, config=model.config.replace(tf_padding=False)),
        changed(model, processor=MobileNetV2ImageProcessor.preset("slim", 64)),
        changed(model, dtype="float64"),
    ]
    assert len({model_digest(one) for one in [model, *others]}) == 5


@pytest.mark.parametrize("arithmetic", ["reference", "fakequant"])
def test_the_arithmetic_of_integers_counts(arithmetic):
    assert model_digest(load()) != model_digest(load(arithmetic=arithmetic))
