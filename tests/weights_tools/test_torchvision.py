"""torchvision's state dict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from npmnv2.weights_tools.tensors import write_tensors
from weight_files import assert_same_weights, random_checkpoint, randomize, save_torchvision

from npmnv2 import MobileNetV2ForImageClassification
from npmnv2.weights_tools import detect_format, read


def test_torchvision_state_dict(tmp_path: Path) -> None:
    checkpoint = random_checkpoint(depth_multiplier=0.35, expand_ratio=6, finegrained_output=True, num_labels=1000)
    save_torchvision(tmp_path / "mobilenet_v2.safetensors", checkpoint)
    assert detect_format(tmp_path / "mobilenet_v2.safetensors") == "torchvision"
    found = read(tmp_path / "mobilenet_v2.safetensors")
    assert_same_weights(found.weights, checkpoint.weights)
    assert (found.config.layer_norm_eps, found.config.tf_padding, found.config.classes) == (1e-5, False, 1000)
    assert found.preprocessing["image_mean"] == [0.485, 0.456, 0.406]
    assert found.labels[0].startswith("tench")
    model = MobileNetV2ForImageClassification.from_checkpoint(found, backend="numpy")
    assert model.processor.image_std == (0.229, 0.224, 0.225)


# 0.35, and a multiplier at which torchvision adds the input of the first block.
@pytest.mark.parametrize("widths", [(16, 8, 8, 16, 24, 32, 56, 112), (8, 8, 8, 8, 8, 16, 24, 48)], ids=str)
def test_logits_of_torchvisions_network(tmp_path: Path, widths) -> None:
    # torchvision itself is not needed: its network in PyTorch's own words, with its names.
    torch = pytest.importorskip("torch")
    nn = torch.nn

    def unit(cin, cout, kernel=3, stride=1, groups=1):
        convolution = nn.Conv2d(cin, cout, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(cout), nn.ReLU6())

    class Block(nn.Module):
        def __init__(self, cin, cout, stride, expansion):
            super().__init__()
            hidden = cin * expansion
            layers = [unit(cin, hidden, 1)] if expansion != 1 else []
            layers += [unit(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, cout, 1, bias=False)]
            self.conv = nn.Sequential(*layers, nn.BatchNorm2d(cout))
            self.residual = stride == 1 and cin == cout

        def forward(self, x):
            return x + self.conv(x) if self.residual else self.conv(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            stem, *rest = widths
            expansions, counts, strides = (1, 6, 6, 6, 6, 6, 6), (1, 2, 3, 4, 3, 3, 1), (1, 2, 2, 2, 1, 2, 1)
            rows = zip(expansions, rest, counts, strides)
            layers, channels = [unit(3, stem, 3, 2)], stem
            for expansion, cout, repeats, stride in rows:
                for repeat in range(repeats):
                    layers.append(Block(channels, cout, stride if repeat == 0 else 1, expansion))
                    channels = cout
            self.features = nn.Sequential(*layers, unit(channels, 1280, 1))
            self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 4))

        def forward(self, x):
            return self.classifier(self.features(x).mean((2, 3)))

    torch.manual_seed(0)
    network = Network().eval()
    randomize(network)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    write_tensors(tmp_path / "m.safetensors", tensors)
    model = MobileNetV2ForImageClassification.from_checkpoint(read(tmp_path / "m.safetensors"), backend="numpy")
    image = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(image)).numpy()
    assert np.abs(model(image).logits - expected).max() <= 1e-4 * np.abs(expected).max()
