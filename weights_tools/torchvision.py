"""torchvision's ``mobilenet_v2``: its state dict, saved as safetensors.

Its batch norms have an epsilon of 1e-5, it pads both sides alike, and it takes images normalized by
ImageNet's mean and standard deviation:
https://pytorch.org/vision/main/models/generated/torchvision.models.mobilenet_v2.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from npmnv2.weights.assemble import Content, assemble
from npmnv2.weights.checkpoint import Checkpoint

from .names import canonical_from_torchvision, from_torch_layout
from .tensors import read_tensors, renamed

BATCH_NORM_EPSILON = 1e-5
PREPROCESSING: dict[str, Any] = {
    "preset": "hf",
    "size": 224,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def read(path: str | Path) -> Checkpoint:
    """Read a state dict of torchvision's mobilenet_v2.

    Parameters
    ----------
    path : str or Path
        A file written by ``safetensors.torch.save_file(model.state_dict(), path)``.

    Returns
    -------
    Checkpoint
        With ``layer_norm_eps=1e-5``, ``tf_padding=False`` and torchvision's preprocessing.

    Raises
    ------
    WeightsError
    """
    path = Path(path)
    weights, others = renamed(read_tensors(path), canonical_from_torchvision, from_torch_layout)
    known = {"layer_norm_eps": BATCH_NORM_EPSILON, "tf_padding": False}
    # Its widths are TF-slim's, and like TF-slim it adds the input of a block wherever the widths agree.
    content = Content(weights, known, maker="slim", unexpected=others, preprocessing=PREPROCESSING)
    return assemble(path, "torchvision", content)
