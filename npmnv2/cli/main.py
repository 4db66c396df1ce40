"""The command line: data on standard output, messages and progress on standard error.

Exit codes: 0 all well, 1 something failed (what failed is on standard error), 2 the command was not understood.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import npmnv2
from npmnv2.cli import checkpoints as cli_checkpoints
from npmnv2.cli import segmentation as cli_segmentation
from npmnv2.cli.checkpoints import add_command
from npmnv2.errors import Npmnv2Error

DEFAULT_MODEL = "mobilenet_v2_1.0_224"
BACKENDS = ("auto", "numba", "numpy")
PHOTO_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

# What a user can cause; anything else is a bug and shows its traceback.
USER_ERRORS = (Npmnv2Error, OSError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        return int(options.run(options))
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: that is its right. Python would log_stderr at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except USER_ERRORS as error:
        log_stderr(str(error))
        return 1


def log_stderr(message: str) -> None:
    """Tell the user on standard error."""
    print(f"npmnv2: {message}", file=sys.stderr)


# --- commands ---------------------------------------------------------------------------------------------------------


def predict(options: argparse.Namespace) -> int:
    """Name what is on photos, or the class of every pixel if the model is for segmentation."""
    model = _load(options)
    paths = list(photos(options.photos))
    write = _writer(options)
    choices, keep = _choices(options, model.task, paths)
    failed = 0
    for _, result in each(lambda batch: [keep(r) for r in model.predict(batch, **choices)], paths, options):
        if isinstance(result, Exception):
            failed += 1
        else:
            write(result)
    return _exit_code(failed, len(paths))


def features(options: argparse.Namespace) -> int:
    """Write the features of photos."""
    import numpy as np

    model = _load(options)
    for endpoint in options.endpoint or ():
        model.plan.resolve(endpoint)  # one message here instead of one for every photo
    paths = list(photos(options.photos))
    names, rows, failed = [], [], 0
    for path, result in each(lambda batch: model.features(batch, options.endpoint), paths, options):
        if isinstance(result, Exception):
            failed += 1
        elif options.out:
            names.append(path)
            rows.append(result if options.endpoint else {"features": result})
        else:
            values = {k: v.tolist() for k, v in result.items()} if options.endpoint else result.tolist()
            print(json.dumps({"source": path, "features": values}))
    if options.out and rows:
        from npmnv2.files import write_atomically

        arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        with write_atomically(Path(options.out)) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, source=np.array(names), **arrays)
        log_stderr(f"wrote {', '.join(f'{k} {v.shape}' for k, v in arrays.items())} to {options.out}")
    return _exit_code(failed, len(paths))


def info(options: argparse.Namespace) -> int:
    """Describe a weight file."""
    from npmnv2.weights_tools import inspect

    facts = inspect(options.file)
    if options.json:
        print(json.dumps(facts, ensure_ascii=False))
        return 0 if facts["readable"] else 1
    for name, value in facts.items():
        if not isinstance(value, (list, dict)) or not value:
            print(f"{name:15} {value}")
        elif isinstance(value, dict):
            print(f"{name:15} {', '.join(f'{k}={v}' for k, v in value.items())}")
        else:
            print(f"{name:15} {', '.join(map(str, value[:8]))}{f', … ({len(value)})' if len(value) > 8 else ''}")
    if options.layers and facts["readable"]:
        from npmnv2.loading import load
        from npmnv2.results.tables import plan_table

        model = load(options.file, backend="numpy")
        print(plan_table(model.plan, model.config.image_size))
    return 0 if facts["readable"] else 1


def convert(options: argparse.Namespace) -> int:
    """Convert weights from one format to another."""
    from npmnv2.weights_tools import convert as convert_file

    labels = Path(options.labels).read_text(encoding="utf-8").splitlines() if options.labels else None
    written = convert_file(
        options.source, options.target, to=options.to, labels=labels, num_classes=options.num_classes
    )
    log_stderr(f"wrote {options.target}")
    preset = written.preprocessing.get("preset")
    if (Path(options.target) / "preprocessor_config.json").is_file() and preset not in (None, "hf"):
        log_stderr(f"transformers cannot prepare photos as {preset!r} does; its own way was written for them instead")
    return 0


def compare(options: argparse.Namespace) -> int:
    """Show where two models, or two backends of one, part: layer by layer, on one photo."""
    from npmnv2.lab.numerics import compare as differences
    from npmnv2.lab.numerics import difference_table, first_divergence

    first = npmnv2.load(options.first, backend=options.backend, dtype=options.dtype)
    second = npmnv2.load(options.second or options.first, backend=options.against)
    x = first.prepare([options.photo])
    found = differences(first.trace(x), second.trace(x))
    print(difference_table(found))
    worst = first_divergence(found, options.tolerance)
    if worst is not None:
        log_stderr(f"{worst.name} is the first layer that differs by more than {options.tolerance:g}")
    return 0 if worst is None else 1


def demo(options: argparse.Namespace) -> int:
    """Predict a photo with ImageNet's weights, or with ones that come from the package index."""
    from npmnv2.cli.demo import run

    print(run(options.photo))
    return 0


def warmup(options: argparse.Namespace) -> int:
    """Compile the kernels now, so that the first prediction does not wait for it."""
    from npmnv2.lab.bench import warmup as compile_kernels

    print(compile_kernels(n_threads=options.threads))
    return 0


def bench(options: argparse.Namespace) -> int:
    """Time the network on this machine."""
    from npmnv2.lab.bench import bench as measure

    print(measure(batch=options.batch, n_threads=options.threads))
    return 0


# --- helpers ----------------------------------------------------------------------------------------------------------


def photos(arguments: Iterable[str]) -> Iterator[str]:
    """Paths of photos: files, folders (all photos directly inside), patterns, and ``-`` for a list on stdin."""
    for argument in arguments:
        if argument == "-":
            yield from (line.strip() for line in sys.stdin if line.strip())
        elif Path(argument).is_dir():
            found = sorted(p for p in Path(argument).iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
            if not found:
                log_stderr(f"{argument} holds no photos ({', '.join(sorted(PHOTO_SUFFIXES))})")
            yield from map(str, found)
        elif glob.has_magic(argument) and not Path(argument).exists():
            matches = sorted(glob.glob(argument, recursive=True))
            if not matches:
                log_stderr(f"{argument} matches no file")
            yield from matches
        else:
            yield argument


def each(
    work: Callable[[list[str]], list[Any]], paths: Sequence[str], options: argparse.Namespace
) -> Iterator[tuple[str, Any]]:
    """Apply `work` to batches of paths. A photo that fails is reported, gives its exception, and spares all others."""
    with progress(len(paths), options.quiet) as bar:
        for at in range(0, len(paths), options.batch_size):
            batch = list(paths[at : at + options.batch_size])
            try:
                results = work(batch)
            except USER_ERRORS:
                results = [_alone(work, path) for path in batch]
            yield from zip(batch, results)
            bar.update(len(batch))


def _alone(work: Callable[[list[str]], list[Any]], path: str) -> Any:
    try:
        return work([path])[0]
    except USER_ERRORS as error:
        log_stderr(str(error) if path in str(error) else f"{path}: {error}")
        return error


def progress(total: int, quiet: bool) -> Any:
    """A progress bar on standard error: shown to people only, and only where there is something to wait for."""
    from tqdm import tqdm

    hidden = quiet or total < 2 or not sys.stderr.isatty()
    return tqdm(total=total, unit="photo", file=sys.stderr, disable=hidden, leave=False)


def _exit_code(failed: int, total: int) -> int:
    if not total:
        log_stderr("no photos were given")
    if failed:
        log_stderr(f"{failed} of {total} photos could not be used")
    return 1 if failed or not total else 0


def _load(options: argparse.Namespace) -> Any:
    model = npmnv2.load(options.model, backend=options.backend, n_threads=options.threads)
    if options.batch_size is None:
        # A segmented photo is large, and its network fills the processor alone.
        options.batch_size = 1 if model.task == "segmentation" else 8
    return model


def _choices(
    options: argparse.Namespace, task: str, paths: Sequence[str]
) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """Arguments of `predict` for a model of this `task`, and what to do with each result before it is printed."""
    if task == "segmentation":
        choices = cli_segmentation.choices(options)
        return {**choices, "batch_size": options.batch_size}, cli_segmentation.saver(options, paths)
    cli_segmentation.refuse_options(options, task)
    top_k = 5 if options.top_k is None else options.top_k
    return {"top_k": top_k, "batch_size": options.batch_size}, lambda result: result


def _writer(options: argparse.Namespace) -> Callable[[Any], None]:
    """How to print one result: JSON lines, CSV with one header, or a table."""
    if options.json:
        return lambda result: print(result.to_json())
    if options.csv:
        first = [True]

        def write(result: Any) -> None:
            print(result.to_csv(header=bool(first)), end="")
            first.clear()

        return write
    return print


# --- the parser -------------------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="npmnv2", description="MobileNetV2 on a CPU, with NumPy and Numba.")
    parser.add_argument("--version", action="version", version=f"npmnv2 {npmnv2.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    command = add_command(commands, "predict", predict)
    _photos(command)
    command.add_argument("-k", "--top-k", type=_positive, help="classes per photo (default 5)")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a line")
    form.add_argument("--csv", action="store_true", help="one line a class")
    cli_segmentation.add_options(command)

    command = add_command(commands, "features", features)
    _photos(command)
    command.add_argument("--endpoint", action="append", help="a layer such as block_13_expand; may be repeated")
    command.add_argument("-o", "--out", help="write an .npz file instead of JSON lines")

    command = add_command(commands, "info", info)
    command.add_argument("file", help="weight file or directory")
    command.add_argument("--layers", action="store_true", help="also list all layers")
    command.add_argument("--json", action="store_true")

    command = add_command(commands, "convert", convert)
    command.add_argument("source", help="weights in any format that npmnv2 reads")
    command.add_argument("target", help="file or directory to write")
    command.add_argument("--to", help="format to write, where the name of the target does not say it")
    command.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    command.add_argument("--num-classes", type=int, choices=(1000, 1001), help="drop or add ImageNet's background")

    cli_checkpoints.add_commands(commands)

    command = add_command(commands, "compare", compare)
    command.add_argument("first", help="the reference: a name or file")
    command.add_argument("second", nargs="?", help="the model to check (default: the first one again)")
    command.add_argument("photo", help="both see what the first makes of it")
    command.add_argument("--backend", default="auto", choices=BACKENDS, help="of the reference")
    command.add_argument("--against", default="auto", choices=BACKENDS, help="backend of the second")
    command.add_argument("--dtype", default="float32", choices=("float32", "float64"), help="of the reference")
    command.add_argument("--tolerance", type=float, default=1e-3, help="as a share of a layer's largest value")

    command = add_command(commands, "demo", demo)
    command.add_argument("photo", nargs="?", help="a photo of your own (default: a cat that comes along)")

    command = add_command(commands, "warmup", warmup)
    _threads(command)

    command = add_command(commands, "bench", bench)
    command.add_argument("--batch", type=_positive, default=1)
    _threads(command)
    return parser


def _photos(command: argparse.ArgumentParser) -> None:
    command.add_argument("photos", nargs="+", metavar="PHOTO", help="files, folders, patterns, - for a list on stdin")
    command.add_argument("-m", "--model", default=DEFAULT_MODEL, help=f"name or file (default {DEFAULT_MODEL})")
    command.add_argument("--backend", default="auto", choices=BACKENDS)
    command.add_argument("--batch-size", type=_positive, help="photos that run at once (default 8; 1 to segment)")
    command.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    _threads(command)


def _threads(command: argparse.ArgumentParser) -> None:
    command.add_argument("--threads", type=_positive, help="threads to use (default: all CPUs of this process)")


def _positive(text: str) -> int:
    value = 0
    with suppress(ValueError):
        value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
