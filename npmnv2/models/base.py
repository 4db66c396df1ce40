"""The models: transformers' classes on NumPy arrays, and `predict` and `features` for people with photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from npmnv2.backends.interface import Executable
from npmnv2.backends.selection import check_threads, get_backend
from npmnv2.errors import ArgumentError, ArgumentTypeError, WeightsError
from npmnv2.images.processor import MobileNetV2ImageProcessor
from npmnv2.images.streams import map_images
from npmnv2.kernels import Array
from npmnv2.labels import labels_for
from npmnv2.network.architecture import POOL
from npmnv2.network.config import MINIMUM_IMAGE_SIZE, MobileNetV2Config
from npmnv2.network.plan import Plan
from npmnv2.results.profile import Profile
from npmnv2.weights.checkpoint import Checkpoint, check_weights, fold_batch_norms, initialize
from npmnv2.weights.native import write_h5
from npmnv2.weights.readers import WEIGHTS_FILE, read_checkpoint

DTYPES = ("float32", "float64")

HiddenStates = bool | Sequence[int | str] | None
Model = TypeVar("Model", bound="MobileNetV2PreTrainedModel")


class MobileNetV2PreTrainedModel:
    """A plan, its weights, a backend and an image processor.

    Parameters
    ----------
    config : MobileNetV2Config
    weights : dict, optional
        Canonical names and layouts (`npmnv2.weights.checkpoint`); random if not given.
    seed : int or numpy.random.Generator, optional
        For random weights.
    backend : {"auto", "numba", "numpy"}
    dtype : {"float32", "float64"}
        float64 runs on NumPy and serves as the reference.
    n_threads : int, optional
        Threads of the Numba backend; the CPUs that this process may use if not given.
    processor : MobileNetV2ImageProcessor, optional
        How `predict` and `features` prepare images.

    Raises
    ------
    WeightsError
        If the weights do not fit the configuration.
    """

    task: ClassVar[str] = "features"
    # The endpoint that `features` gives where none is named.
    embedding: ClassVar[str] = POOL
    plan: Plan

    def __init__(
        self,
        config: MobileNetV2Config,
        weights: Mapping[str, Array] | None = None,
        *,
        seed: int | np.random.Generator | None = None,
        backend: str = "auto",
        dtype: DTypeLike = "float32",
        n_threads: int | None = None,
        processor: MobileNetV2ImageProcessor | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(config, MobileNetV2Config):
            raise ArgumentTypeError(f"config must be a MobileNetV2Config, got {type(config).__name__}")
        self.config = config
        self.plan = self.build(config)
        self.weights = dict(weights) if weights is not None else initialize(self.plan, config, seed)
        check_weights(self.plan, self.weights)
        self.dtype = np.dtype(dtype)
        if self.dtype.name not in DTYPES:
            raise ArgumentError(f"dtype (={self.dtype.name!r}) must be one of {', '.join(DTYPES)}")
        self.backend = get_backend(backend, self.dtype)
        self.n_threads = check_threads(n_threads)
        self.processor = processor or MobileNetV2ImageProcessor.preset("hf", config.image_size)
        self.source = dict(source or {})

    @classmethod
    def build(cls, config: MobileNetV2Config) -> Plan:
        """The plan that this class runs."""
        raise ArgumentTypeError(f"{cls.__name__} is abstract: use one of its subclasses")

    @cached_property
    def executable(self) -> Executable:
        """The network, folded and compiled for the backend at first use."""
        return self.backend.compile(self.plan, fold_batch_norms(self.plan, self.weights, self.dtype), self.n_threads)

    # --- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def from_checkpoint(cls: type[Model], checkpoint: Checkpoint, where: str | None = None, **options: Any) -> Model:
        """Make a model of the contents of a weight file, which messages call `where`.

        Raises
        ------
        WeightsError
            If the file is for another task, or its weights do not fit.
        """
        if checkpoint.config is None:
            raise WeightsError("checkpoint must hold a configuration, got none")
        where = where or checkpoint.source.get("file", "checkpoint")
        weights = cls.select(checkpoint, where)
        check_weights(cls.build(checkpoint.config), weights, where)
        size = checkpoint.preprocessing.get("size", checkpoint.config.image_size)
        options.setdefault("processor", MobileNetV2ImageProcessor.from_preprocessing(checkpoint.preprocessing, size))
        return cls(_with_labels(checkpoint), weights, source=checkpoint.source, **options)

    @classmethod
    def select(cls, checkpoint: Checkpoint, where: str) -> dict[str, Array]:
        """The weights of a file that this model uses; refuses a file made for another task."""
        if checkpoint.task != cls.task:
            raise WeightsError(f"{where} must hold a {cls.task} model for {cls.__name__}, got {checkpoint.task}")
        return checkpoint.weights

    def to_checkpoint(self) -> Checkpoint:
        """Everything that a weight file holds of this model."""
        labels = self.labels if self.task != "features" else None
        preprocessing = self.processor.to_preprocessing()
        return Checkpoint(self.weights, self.task, self.config, labels, preprocessing, self.source)

    @classmethod
    def from_pretrained(cls: type[Model], name_or_path: str | Path, **options: Any) -> Model:
        """Load a directory made by `save_pretrained` here or in transformers, a weight file, or a checkpoint by name.

        Other keyword arguments go to the constructor (`backend`, `dtype`, `n_threads`, `processor`).
        """
        from npmnv2.hub.locate import locate

        path = locate(name_or_path)
        return cls.from_checkpoint(read_checkpoint(path), str(path), **options)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write ``config.json``, ``preprocessor_config.json`` and the weights into a directory, each atomically."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_h5(self.to_checkpoint(), directory / WEIGHTS_FILE)
        self.processor.save_pretrained(directory)
        self.config.save_pretrained(directory)

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, x: Array, outputs: Sequence[str]) -> dict[str, Array]:
        """Run on `x` (N, H, W, C), no further than `outputs` (endpoint names or aliases) need.

        Returns
        -------
        dict of str to Array
            By the names that were asked for; feature maps are (N, H, W, C).
        """
        return self.executable(self._check_input(x), outputs)

    def trace(self, x: Array) -> dict[str, Array]:
        """Values of all endpoints, by name and in order: for comparing another implementation layer by layer."""
        return self.run(x, self.plan.endpoints)

    def profile(self, image: Any) -> Profile:
        """Run on one image, after a first run to warm up, and tell what every node took; prints as a table."""
        x = self.prepare([image])
        last = self.plan.nodes[-1].name
        self.executable(x, [last])
        return Profile(self.executable.profile(x, [last]))

    def _check_input(self, x: Array) -> Array:
        if x.ndim != 4:
            raise ArgumentError(f"pixel_values must have four dimensions, got shape {x.shape}")
        if x.shape[-1] != self.config.num_channels:
            raise ArgumentError(
                f"pixel_values must have num_channels (={self.config.num_channels}) channels, got shape {x.shape} "
                "(channels last)"
            )
        if min(x.shape[1:3]) < MINIMUM_IMAGE_SIZE:
            raise ArgumentError(
                f"pixel_values must be at least {MINIMUM_IMAGE_SIZE}×{MINIMUM_IMAGE_SIZE} pixels, got "
                f"{x.shape[1]}×{x.shape[2]}"
            )
        if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
            raise ArgumentTypeError(f"pixel_values must be an array of numbers, got dtype {x.dtype}")
        return np.ascontiguousarray(x, self.dtype)

    def _channels_last(self, pixel_values: ArrayLike | None, data_format: str) -> Array:
        if pixel_values is None:
            raise ArgumentError("pixel_values must be given")
        if data_format not in ("channels_first", "channels_last"):
            raise ArgumentError(f"data_format (={data_format!r}) must be 'channels_first' or 'channels_last'")
        x = np.asarray(pixel_values)
        if x.ndim != 4 or data_format == "channels_last":
            return x
        channels = self.config.num_channels
        if x.shape[1] != channels and x.shape[3] == channels:
            raise ArgumentError(
                f"pixel_values must have the shape (N, {channels}, height, width), got {x.shape}; "
                "for channels last pass data_format='channels_last'"
            )
        return x.transpose(0, 2, 3, 1)

    def _hidden_names(self, wanted: HiddenStates) -> tuple[str, ...]:
        """Endpoint names for `output_hidden_states`: all 16 blocks for True, or a choice by index or name."""
        blocks = tuple(f"block_{i}" for i in range(1, 17))
        if wanted is None or wanted is False:
            return ()
        if wanted is True:
            return blocks
        if isinstance(wanted, (str, int)):
            raise ArgumentTypeError(
                f"output_hidden_states (={wanted!r}) must be True, False or a list of indices and names"
            )
        names = []
        for item in wanted:
            if isinstance(item, str):
                names.append(item)
            elif isinstance(item, (bool, np.bool_)) or not isinstance(item, (int, np.integer)):
                raise ArgumentTypeError(f"output_hidden_states item (={item!r}) must be an index or an endpoint's name")
            elif -16 <= item < 16:
                names.append(blocks[item])
            else:
                raise ArgumentError(
                    f"output_hidden_states index (={item}) must be from -16 to 15: one of the 16 blocks"
                )
        return tuple(names)

    def _forward(
        self, pixel_values: ArrayLike | None, hidden: HiddenStates, outputs: Sequence[str], data_format: str
    ) -> tuple[dict[str, Array], tuple[Array, ...] | None]:
        """Run to `outputs`, or, where certain hidden states were chosen, just as far as those."""
        x = self._check_input(self._channels_last(pixel_values, data_format))
        names = self._hidden_names(hidden)
        chosen = bool(names) and hidden is not True
        values = self.executable(x, names if chosen else [*outputs, *names])
        return values, tuple(layout(values[name], data_format) for name in names) if names else None

    # --- photos ------------------------------------------------------------------------------------------------------

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in order."""
        assert self.config.id2label is not None
        return tuple(self.config.id2label.values())

    def features(self, images: Any, endpoints: Sequence[str] | None = None, *, batch_size: int = 8) -> Any:
        """Embed images, or read feature maps inside the network; nothing beyond the last one is computed.

        Parameters
        ----------
        images
            One image (path, PIL image, array), a list of them, or an iterator.
        endpoints : list of str, optional
            Names such as ``"block_13_expand"`` or slim's ``"layer_15/expansion_output"``.
        batch_size : int
            How many images run at once.

        Returns
        -------
        Array [shape=(C,)] or dict of str to Array [shape=(H, W, C)]
            For one image: the pooled features, or the maps by name. For a list, a list of these; for an iterator, an
            iterator.
        """
        if isinstance(endpoints, str):
            raise ArgumentTypeError(f"endpoints (={endpoints!r}) must be a list of names, got one string")
        names = tuple(endpoints) if endpoints is not None else (self.embedding,)
        for name in names:
            self.plan.resolve(name)

        def finish(values: dict[str, Array], at: int, _: Any) -> Any:
            one = {name: value[at] for name, value in values.items()}
            return one if endpoints is not None else _pooled(one[self.embedding])

        return self._map(images, names, finish, batch_size)

    def prepare(self, images: Sequence[Any]) -> Array:
        """Images as the network takes them: (N, H, W, C) in the model's number type."""
        x = self.processor.to_array(images)
        if self.dtype == np.float64:
            x = x.astype(np.float64)
        return x

    def _map(
        self,
        images: Any,
        outputs: Sequence[str],
        finish: Callable[[dict[str, Array], int, Any], Any],
        batch_size: int,
    ) -> Any:
        """Apply the network to one image, a list or an iterator, in batches; the answer has the same form."""

        def run(x: Array) -> dict[str, Array]:
            return self.executable(self._check_input(x), outputs)

        return map_images(images, lambda image: (self.prepare([image]), image), run, finish, batch_size)


def _with_labels(checkpoint: Checkpoint) -> MobileNetV2Config:
    """The configuration with the names of the classes, known ones where the file has none."""
    config = checkpoint.config
    assert config is not None
    labels = checkpoint.labels
    if labels is None and _has_default_names(config):
        labels = labels_for(config.classes, checkpoint.task)
    if labels is None:
        return config
    if len(labels) != config.classes:
        raise WeightsError(
            f"labels must name each of the {config.classes} classes of the model, got {len(labels)} names"
        )
    return config.replace(id2label=dict(enumerate(labels)))


def _has_default_names(config: MobileNetV2Config) -> bool:
    assert config.id2label is not None
    return all(label == f"LABEL_{index}" for index, label in config.id2label.items())


def layout(value: Array, data_format: str) -> Array:
    """A feature map (N, H, W, C) in the layout that the caller wants; anything else as it is."""
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 and data_format == "channels_first" else value


def _pooled(features: Array) -> Array:
    """One vector, also of a fixed-window pool that left a map."""
    return features if features.ndim == 1 else features.mean(axis=(0, 1))
