"""What the embedding of a photo depends on, in one digest: by it an index knows its model."""

from __future__ import annotations

from npmnv2.models.base import MobileNetV2PreTrainedModel
from npmnv2.weights.native import digest


def model_digest(model: MobileNetV2PreTrainedModel) -> str:
    """SHA-256, as hex digits, of a model's weights, configuration, arithmetic and ways to prepare photos.

    The backend, threads, labels and the file's name do not count.
    """
    config = {key: value for key, value in model.config.to_dict().items() if key not in ("id2label", "label2id")}
    quantization = None if model.quantization is None else model.quantization.to_json()
    stated = {
        "config": config,
        "endpoint": model.plan.resolve(model.embedding),
        "preprocessing": model.processor.to_preprocessing(),
        "dtype": model.number_type,
        "quantization": quantization,
        "arithmetic": getattr(model.backend, "arithmetic", None),
    }
    return digest(stated, model.weights)
