"""The models: transformers' classes on NumPy arrays, and `predict` and `features` for photos."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from npmnv2.backends.interface import Backend, Executable
from npmnv2.backends.selection import check_precision, check_threads, get_backend, get_quantized_backend
from npmnv2.errors import ArgumentError, ArgumentTypeError, WeightsError
from npmnv2.images.loading import ImageSource, is_array, to_numpy
from npmnv2.images.processor import PRESETS, MobileNetV2ImageProcessor, Preset
from npmnv2.images.steps import Pair
from npmnv2.images.streams import OnError, map_images
from npmnv2.kernels import Array, global_average_pool
from npmnv2.labels import labels_for
from npmnv2.models.outputs import HiddenStatesOutput
from npmnv2.network.activations import activation
from npmnv2.network.architecture import POOL
from npmnv2.network.config import MINIMUM_IMAGE_SIZE, MobileNetV2Config
from npmnv2.network.plan import Plan
from npmnv2.results.profile import Profile
from npmnv2.results.tables import plan_table
from npmnv2.weights.checkpoint import Checkpoint, FoldedWeights, check_weights, initialize
from npmnv2.weights.native import WEIGHTS_FILE, write_h5
from npmnv2.weights.readers import read_checkpoint

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from npmnv2.backends.integers import IntegerExecutable
    from npmnv2.network.quantization import Quantization
    from npmnv2.results.trace import Trace

DTYPES = ("float32", "float64")

HiddenStates = bool | Sequence[int | str] | None
DataFormat = Literal["channels_first", "channels_last"]
Transform = Preset | MobileNetV2ImageProcessor
Features = Array | dict[str, Array]
Model = TypeVar("Model", bound="MobileNetV2PreTrainedModel")


class RunOptions(TypedDict, total=False):
    """Options of `predict` and `features`, for type checkers."""

    transform: Transform | None
    batch_size: int


class MobileNetV2PreTrainedModel:
    """A plan, its weights, a backend and an image processor.

    Parameters
    ----------
    config : MobileNetV2Config
    weights : dict, optional
        Canonical names and layouts (`npmnv2.weights.checkpoint`); random if not given.
    seed : int or numpy.random.Generator, optional
        For random weights.
    backend : {"auto", "compiled", "numba", "numpy"}
    dtype : {"float32", "float64"}
        float64 runs on NumPy and serves as the reference.
    precision : {"float32", "bf16"}
        What the products of a network of float32 numbers multiply, see `npmnv2.load`.
    n_threads : int, optional
        Threads of compiled kernels; the CPUs that this process may use if not given.
    processor : MobileNetV2ImageProcessor, optional
        How `predict` and `features` prepare images.
    source : dict, optional
        Where the weights came from, as `Checkpoint.source`.
    where : str
        What messages about the weights call them, such as the name of their file.
    quantization : Quantization, optional
        What the weights stand for, if they are integers.
    arithmetic : {"xnnpack", "reference", "fakequant"}, optional
        How a quantized network rounds (`npmnv2.kernels.quantized`): as LiteRT does on x86, which is the default, as
        TensorFlow Lite's reference kernels, or in float32 as the network was trained.

    Raises
    ------
    ArgumentError
        If there is no such backend, type or arithmetic.
    WeightsError
        If the weights do not fit the configuration.

    Notes
    -----
    Models can be pickled and copied, and sent to other processes. The weights travel; what was compiled for them is
    made anew at the first use, and gives the same bits.
    """

    task: ClassVar[str] = "features"
    # The endpoint that `features` gives where none is named.
    embedding: ClassVar[str] = POOL
    # How photos are prepared where no image processor is given.
    preset: ClassVar[Preset] = "hf"
    plan: Plan

    def __init__(
        self,
        config: MobileNetV2Config,
        weights: Mapping[str, Array] | None = None,
        *,
        seed: int | np.random.Generator | None = None,
        backend: str = "auto",
        dtype: DTypeLike = "float32",
        precision: str = "float32",
        n_threads: int | None = None,
        processor: MobileNetV2ImageProcessor | None = None,
        source: Mapping[str, Any] | None = None,
        where: str = "weights",
        quantization: Quantization | None = None,
        arithmetic: str | None = None,
    ) -> None:
        if not isinstance(config, MobileNetV2Config):
            raise ArgumentTypeError(f"config must be a MobileNetV2Config, got {type(config).__name__}")
        self.config = config
        self.plan = self.build(config)
        self.weights = dict(weights) if weights is not None else initialize(self.plan, config, seed)
        check_weights(self.plan, self.weights, where)
        if quantization is not None:
            from npmnv2.network.quantization import check_quantization

            check_quantization(self.plan, self.weights, quantization, where)
        self.dtype = _checked_dtype(dtype)
        self.quantization = quantization
        self.precision = check_precision(precision)
        self._wanted_backend = backend, arithmetic
        self.backend = self._choose_backend()
        self.n_threads = check_threads(n_threads)
        self.processor = processor or MobileNetV2ImageProcessor.preset(self.preset, config.image_size)
        self.source = dict(source or {})

    @classmethod
    def build(cls, config: MobileNetV2Config) -> Plan:
        """The plan that this class runs."""
        raise ArgumentTypeError(f"{cls.__name__} is abstract: use one of its subclasses")

    def _choose_backend(self) -> Backend:
        backend, arithmetic = self._wanted_backend
        if self.quantization is not None:
            if self.precision != "float32":
                raise ArgumentError(f"precision (={self.precision!r}) must be left out for a network that is quantized")
            return get_quantized_backend(backend, self.dtype, self.quantization, arithmetic)
        if arithmetic is not None:
            raise ArgumentError(f"arithmetic (={arithmetic!r}) must be left out for a network that is not quantized")
        return get_backend(backend, self.dtype, self.precision)

    @cached_property
    def executable(self) -> Executable:
        """The network, folded and compiled for the backend at first use."""
        folded = self.quantization is None
        weights = FoldedWeights(self.plan, self.weights, self.dtype) if folded else self.weights
        return self.backend.compile(self.plan, weights, self.n_threads)

    # --- as an object ------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        """The class, and what sets this model apart from others of it."""
        config = self.config
        size = sum(array.size for array in self.weights.values())
        classes = f"{config.classes} classes, " if self.task != "features" else ""
        return (
            f"<{type(self).__name__}: multiplier {config.depth_multiplier:g}, image size {config.image_size}, {classes}"
            f"{size / 1e6:.1f} M weights, {self.backend.name}, {self.number_type}>"
        )

    @property
    def number_type(self) -> str:
        """What the network computes in, in one word: float32, float64 or bf16."""
        return self.precision if self.precision != "float32" else str(self.dtype.name)

    def __dir__(self) -> list[str]:
        """The public names, for completion."""
        return [name for name in super().__dir__() if not name.startswith("_") or name.endswith("__")]

    def summary(self, height: int | None = None, width: int | None = None) -> str:
        """Return a table of all nodes with output shape, parameters and multiply-adds, to be printed.

        For a quantized network a second table has the scale, zero point and range of every value.

        Parameters
        ----------
        height, width : int, optional
            Of the input; the model's own size if not given.
        """
        table = plan_table(self.plan, self.config.image_size if height is None else height, width)
        if self.quantization is None:
            return table
        from npmnv2.network.quantization import quantization_table

        return f"{table}\n\n{quantization_table(self.plan, self.quantization)}"

    def __getstate__(self) -> dict[str, Any]:
        # What is compiled holds addresses, and a path tells where its owner keeps things: neither leaves the process.
        state = {name: value for name, value in vars(self).items() if name not in ("executable", "backend", "plan")}
        return {**state, "source": _without_folders(self.source)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self.plan = self.build(self.config)
        self.backend = self._choose_backend()

    def __sklearn_clone__(self: Model) -> Model:
        return copy.deepcopy(self)

    # --- files -------------------------------------------------------------------------------------------------------

    @classmethod
    def from_checkpoint(cls: type[Model], checkpoint: Checkpoint, where: str | None = None, **options: Any) -> Model:
        """Make a model of the contents of a weight file, which messages call `where`.

        Raises
        ------
        WeightsError
            If the file is for a different task, or its weights do not fit.
        """
        if checkpoint.config is None:
            raise WeightsError("checkpoint must hold a configuration, got none")
        where = where or checkpoint.source.get("file", "checkpoint")
        weights = cls.select(checkpoint, where)
        size = checkpoint.preprocessing.get("size", checkpoint.config.image_size)
        if options.get("processor") is None:
            options["processor"] = MobileNetV2ImageProcessor.from_preprocessing(checkpoint.preprocessing, size)
        quantization = checkpoint.quantization
        if quantization is not None and checkpoint.task != cls.task:
            # A file's interface begins where its whole network ends.
            quantization = replace(quantization, interface=None)
        options |= {"source": checkpoint.source, "quantization": quantization}
        return cls(_with_labels(checkpoint), weights, where=where, **options)

    @classmethod
    def select(cls, checkpoint: Checkpoint, where: str) -> dict[str, Array]:
        """The weights of a file that this model uses; a file for a different task is an error."""
        if checkpoint.task != cls.task:
            raise WeightsError(f"{where} must hold a {cls.task} model for {cls.__name__}, got {checkpoint.task}")
        return checkpoint.weights

    def to_checkpoint(self) -> Checkpoint:
        """What a weight file holds of this model."""
        labels = self.labels if self.task != "features" else None
        preprocessing = self.processor.to_preprocessing()
        return Checkpoint(self.weights, self.task, self.config, labels, preprocessing, self.source, self.quantization)

    @classmethod
    def from_pretrained(cls: type[Model], name_or_path: str | Path, **options: Any) -> Model:
        """Load a directory made by `save_pretrained` here or in transformers, a weight file, or a checkpoint by name.

        Other keyword arguments go to the constructor (`backend`, `dtype`, `precision`, `n_threads`, `processor`).
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

    def trace(self, x: Array, endpoints: Sequence[str] | None = None, *, raw: bool = False) -> Trace:
        """Values inside the network, by name and in order, for a look or for a comparison with another implementation.

        Parameters
        ----------
        x : Array [shape=(N, H, W, C)]
        endpoints : sequence of str, optional
            Names or aliases; all endpoints if not given.
        raw : bool
            Of a quantized network return the integers instead of the real numbers that they stand for.

        Returns
        -------
        Trace
            A dictionary. ``trace.summary()`` is a table of minimum, mean, maximum, zeros and saturation.
        """
        from npmnv2.results.trace import Trace

        names = self.plan.endpoints if endpoints is None else tuple(endpoints)
        if raw:
            values: Any = self._integer_executable("trace(raw=True)").raw(self._check_input(x), names)
            return Trace(values, {})
        tops = self._upper_limits()
        resolved = {name: self.plan.resolve(name) for name in names}
        return Trace(self.run(x, names), {name: tops[end] for name, end in resolved.items() if end in tops})

    def _upper_limits(self) -> dict[str, float]:
        """Where the activations of endpoints cut off; the last step of a quantized value may lie below."""
        tops = {}
        for part in self.plan.parts():
            high = activation(getattr(part.layer, "activation", "linear")).clip[1]
            if high < math.inf:
                q = self.quantization
                stepped = q is not None and part.name not in q.exponents
                tops[part.name] = min(high, q.values[part.name].real_range[1]) if q and stepped else high
        return tops

    def folded_weights(self) -> Mapping[str, Array]:
        """Kernels and biases in real numbers, as the layers' definitions take them: batch norms folded in.

        Those of a quantized network are the numbers that its integers stand for.

        Returns
        -------
        dict of str to Array
            ``<layer>/kernel``: convolution (kh, kw, Cin, Cout), pointwise and dense (Cin, Cout), depthwise (kh, kw, C);
            ``<layer>/bias``: (Cout,).
        """
        if self.quantization is None:
            return FoldedWeights(self.plan, self.weights, self.dtype)
        from npmnv2.backends.integers import real_weights
        from npmnv2.weights.equalize import restore

        weights = real_weights(self.plan, self.weights, self.quantization)
        return restore(self.plan, weights, self.quantization.exponents)

    def quantize(
        self: Model,
        photos: Any,
        *,
        method: str = "minmax",
        percentile: float = 99.99,
        dtype: str = "int8",
        equalize: bool = False,
        correct_biases: bool = True,
    ) -> Model:
        """Return this network quantized, with the ranges that its values have on photos.

        Parameters
        ----------
        photos
            One photo or a list, as `predict` takes them: some hundred of those that the model is for.
        method : {"minmax", "percentile", "mse"}
            How a range follows from values: their extremes, what holds `percentile` percent of them, or the least mean
            squared error.
        percentile : float
        dtype : {"int8", "uint8"}
            int8 has a scale per channel for kernels; uint8 one per kernel.
        equalize : bool
            Bring the channels of each value to similar sizes first, by factors that the next layer takes back
            (`npmnv2.weights.equalize`), where that promises less noise. `run`, `features` and `trace` take the factors
            back too; a TFLite file that is written does not know them.
        correct_biases : bool
            Take off what the rounding of kernels adds to each channel on average.

        Raises
        ------
        ArgumentError
            If the network is quantized already or there are no photos.
        WeightsError
            If the ranges are impossible, as those of photos that show nothing.
        """
        from npmnv2.models.quantization import Choices, quantized_checkpoint, value_names

        if self.quantization is not None:
            raise ArgumentError("quantize needs a network of real numbers; this one is quantized")
        chosen = photos if isinstance(photos, (list, tuple)) else [photos]
        names = value_names(self.plan)
        checkpoint, processor = quantized_checkpoint(
            self.to_checkpoint(),
            self.plan,
            self.processor,
            lambda folded: partial(self.backend.compile(self.plan, folded, self.n_threads), outputs=names),
            lambda: (self.prepare([photo]) for photo in chosen),
            Choices(method, percentile, dtype, equalize, correct_biases),
        )
        return type(self).from_checkpoint(checkpoint, processor=processor, n_threads=self.n_threads)

    def invoke(self, x: Any) -> Any:
        """What the interpreter of a quantized network's TFLite file returns for its input.

        Parameters
        ----------
        x : array
            Of the file's shape, any number of images, and type: of uint8 a photo's own pixels.

        Returns
        -------
        array
            The file's own output: probabilities as integers, for example, or a label map.

        Raises
        ------
        ArgumentError, ArgumentTypeError
            If the network is not quantized or does not come from a TFLite file, or `x` is not of its shape and type.
        """
        return self._integer_executable("invoke").invoke(x)

    def _integer_executable(self, purpose: str) -> IntegerExecutable:
        from npmnv2.backends.integers import IntegerExecutable

        executable = self.executable
        if not isinstance(executable, IntegerExecutable):
            raise ArgumentError(f"{purpose} needs a quantized network; this one runs in real numbers")
        return executable

    def profile(self, image: ImageSource) -> Profile:
        """Time every node on one image; the result prints as a table."""
        return Profile(self.executable.profile(self._check_input(self.prepare([image])), [self.plan.nodes[-1].name]))

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
        x = to_numpy(pixel_values) if is_array(pixel_values) else np.asarray(pixel_values)
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
    ) -> tuple[dict[str, Array] | None, tuple[Array, ...] | None]:
        """The values of `outputs` and the hidden states; None for the former where certain states were chosen."""
        x = self._check_input(self._channels_last(pixel_values, data_format))
        names = self._hidden_names(hidden)
        chosen = bool(names) and hidden is not True
        values = self.executable(x, names if chosen else [*outputs, *names])
        states = tuple(layout(values[name], data_format) for name in names) if names else None
        return None if chosen else values, states

    @staticmethod
    def _chosen(
        states: tuple[Array, ...] | None, labels: ArrayLike | None, return_dict: bool | None
    ) -> HiddenStatesOutput | tuple[Any, ...]:
        """The output of a run that stopped at the last of the chosen hidden states."""
        if labels is not None:
            raise ArgumentError(
                "labels must not be given together with chosen hidden states: the run stops before the loss"
            )
        output = HiddenStatesOutput(states or ())
        return output.to_tuple() if return_dict is False else output

    # --- photos ------------------------------------------------------------------------------------------------------

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in order."""
        assert self.config.id2label is not None
        return tuple(self.config.id2label.values())

    # The order matters: a path is an iterable of strings too, and an iterator an iterable.
    @overload
    def features(  # type: ignore[overload-overlap]
        self,
        images: ImageSource,
        endpoints: None = None,
        *,
        errors: Literal["raise"] = ...,
        **options: Unpack[RunOptions],
    ) -> Array: ...
    @overload
    def features(  # type: ignore[overload-overlap]
        self,
        images: ImageSource,
        endpoints: Sequence[str],
        *,
        errors: Literal["raise"] = ...,
        **options: Unpack[RunOptions],
    ) -> dict[str, Array]: ...
    @overload
    def features(  # type: ignore[overload-overlap]
        self,
        images: Iterator[ImageSource],
        endpoints: None = None,
        *,
        errors: Literal["raise", "skip"] = ...,
        **options: Unpack[RunOptions],
    ) -> Iterator[Array]: ...
    @overload
    def features(  # type: ignore[overload-overlap]
        self,
        images: Iterator[ImageSource],
        endpoints: Sequence[str],
        *,
        errors: Literal["raise", "skip"] = ...,
        **options: Unpack[RunOptions],
    ) -> Iterator[dict[str, Array]]: ...
    @overload
    def features(  # type: ignore[overload-overlap]
        self,
        images: Iterator[ImageSource],
        endpoints: Sequence[str] | None = None,
        *,
        errors: OnError,
        **options: Unpack[RunOptions],
    ) -> Iterator[Features | Exception]: ...
    @overload
    def features(
        self,
        images: Iterable[ImageSource],
        endpoints: None = None,
        *,
        errors: Literal["raise", "skip"] = ...,
        **options: Unpack[RunOptions],
    ) -> list[Array]: ...
    @overload
    def features(
        self,
        images: Iterable[ImageSource],
        endpoints: Sequence[str],
        *,
        errors: Literal["raise", "skip"] = ...,
        **options: Unpack[RunOptions],
    ) -> list[dict[str, Array]]: ...
    @overload
    def features(
        self,
        images: Iterable[ImageSource],
        endpoints: Sequence[str] | None = None,
        *,
        errors: OnError,
        **options: Unpack[RunOptions],
    ) -> list[Features | Exception]: ...
    def features(
        self,
        images: ImageSource | Iterable[ImageSource],
        endpoints: Sequence[str] | None = None,
        *,
        errors: OnError = "raise",
        transform: Transform | None = None,
        batch_size: int = 8,
    ) -> Any:
        """Embed images, or read feature maps inside the network; nothing beyond the last one is computed.

        Parameters
        ----------
        images
            One image (path, PIL image, array), a list of them, or an iterator. An array of four axes, or a column of
            paths, is a list.
        endpoints : list of str, optional
            Names such as ``"block_13_expand"`` or slim's ``"layer_15/expansion_output"``.
        errors : {"raise", "skip", "return"}
            What becomes of an image that cannot be used, where there are several: raise its exception, after the
            results of all images before it; leave it out, with a warning in the log ``npmnv2``; or return its
            exception in the result's place.
        transform : {"hf", "slim", "keras", "raw", "deeplab", "ssd"} or MobileNetV2ImageProcessor, optional
            How a photo becomes the network's input: a preset at the model's size or an image processor; the model's
            own if not given.
        batch_size : int
            How many images run at once.

        Returns
        -------
        Array [shape=(C,)] or dict of str to Array [shape=(H, W, C)]
            For one image: the pooled features, or the maps by name. For a list, a list of these; for an iterator, an
            iterator.

        Notes
        -----
        Maps have the channels last, as photos and the network have them. Only the calls that follow transformers,
        ``model(pixel_values)``, have them first, in `pixel_values` and in `hidden_states`.
        """
        if isinstance(endpoints, str):
            raise ArgumentTypeError(f"endpoints (={endpoints!r}) must be a list of names, got one string")
        names = tuple(endpoints) if endpoints is not None else (self.embedding,)
        for name in names:
            self.plan.resolve(name)

        def finish(values: dict[str, Array], at: int, _: Any) -> Any:
            one = {name: value[at] for name, value in values.items()}
            return one if endpoints is not None else _pooled(one[self.embedding][None])[0]

        return self._map(images, names, finish, errors, transform, batch_size)

    def embed(self, x: Array) -> Array:
        """The pooled features (N, C) of prepared images `x` (N, H, W, C), as `features` gives them for photos."""
        return _pooled(self.run(x, [self.embedding])[self.embedding])

    def prepare(self, images: Sequence[ImageSource], transform: Transform | None = None) -> Array:
        """Images as the network takes them: (N, H, W, C) in the model's number type."""
        return self._processor(transform).to_array(images).astype(self.dtype, copy=False)

    def _processor(self, transform: Transform | None) -> MobileNetV2ImageProcessor:
        """The image processor that `transform` stands for; the model's own for None."""
        if transform is None:
            return self.processor
        if isinstance(transform, MobileNetV2ImageProcessor):
            return transform
        if transform not in PRESETS:
            raise ArgumentError(f"transform (={transform!r}) must be an image processor or one of {', '.join(PRESETS)}")
        return MobileNetV2ImageProcessor.preset(transform, self._input_size())

    def _input_size(self) -> Pair:
        """(height, width) of the input that the model's processor makes, or else of the configuration."""
        return self.processor.output_size(self.config.image_size)

    def _map(
        self,
        images: Any,
        outputs: Sequence[str],
        finish: Callable[[dict[str, Array], int, Any], Any],
        errors: OnError,
        transform: Transform | None,
        batch_size: int,
    ) -> Any:
        """Apply the network to one image, a list or an iterator, in batches; the answer has the same form."""
        processor = self._processor(transform)

        def run(x: Array) -> dict[str, Array]:
            return self.executable(self._check_input(x), outputs)

        return map_images(
            images, lambda image: (self.prepare([image], processor), image), run, finish, batch_size, errors
        )


def _with_labels(checkpoint: Checkpoint) -> MobileNetV2Config:
    """The configuration with the names of the classes: the file's, or those of a known data set."""
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


def _checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        checked = np.dtype(dtype)
    except TypeError:
        checked = np.dtype(object)
    if checked.name not in DTYPES:
        raise ArgumentError(f"dtype (={dtype!r}) must be one of {', '.join(DTYPES)}")
    return checked


def _without_folders(source: Mapping[str, Any]) -> dict[str, Any]:
    return {**source, "file": PurePath(source["file"]).name} if "file" in source else dict(source)


def layout(value: Array, data_format: str) -> Array:
    """A feature map (N, H, W, C) in the layout `data_format`; other arrays as they are."""
    return value.transpose(0, 3, 1, 2) if value.ndim == 4 and data_format == "channels_first" else value


def _pooled(features: Array) -> Array:
    """Vectors (N, C); the map that a fixed pooling window leaves is averaged."""
    return features if features.ndim == 2 else global_average_pool(features)
