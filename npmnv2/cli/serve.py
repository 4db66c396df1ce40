"""``npmnv2 serve``: a page to drop photos on, and an API."""

from __future__ import annotations

import argparse
import os
from dataclasses import fields
from typing import Any

from npmnv2.cli.arguments import DEFAULT_MODEL, add_backend, add_command, add_model, add_threads, positive
from npmnv2.cli.console import log_stderr
from npmnv2.errors import MissingPackageError

_EXAMPLES = (
    "serve",
    "serve -m mobilenet_v2_1.0_224 -m deeplabv3_mnv2_pascal_train_aug --port 8080",
    "serve --host 0.0.0.0    # with the token in NPMNV2_TOKEN",
)
TOKEN = "NPMNV2_TOKEN"


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    command = add_command(commands, "serve", serve, _EXAMPLES)
    add_model(
        command, "-m", "--model", action="append", help=f"name or file; may be repeated (default: {DEFAULT_MODEL})"
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    command.add_argument("--port", type=_port, default=8000, metavar="N", help="default: 8000; 0 is any that is free")
    command.add_argument("--open", action="store_true", help="open the page in a browser")
    add_backend(command)
    command.add_argument("--workers", type=positive, metavar="N", help="photos that run at once (default: one a CPU)")
    add_threads(command)
    group = command.add_argument_group("limits")
    for name, (kind, default, text) in _LIMITS.items():
        group.add_argument(f"--{name}", type=kind, default=default, metavar="N", help=f"{text} (default: {default:g})")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, got {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


# Names, kinds, defaults and texts of `Limits`, which a test compares: reading it would import it for every command.
_LIMITS: dict[str, tuple[Any, float, str]] = {
    "megabytes": (_amount, 20, "of a request"),
    "megapixels": (_amount, 50, "of a photo"),
    "images": (positive, 16, "of a request"),
    "queue": (positive, 64, "photos that wait; more are answered with 429"),
    "seconds": (_amount, 30, "until an answer"),
}


def serve(options: argparse.Namespace) -> int:
    """Serve a page to drop photos on, and an API, on this machine."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise MissingPackageError("npmnv2 serve needs FastAPI and uvicorn: pip install 'npmnv2[serve]'") from None
    from npmnv2.serve.app import create_app
    from npmnv2.serve.catalog import Catalog
    from npmnv2.serve.guard import is_loopback
    from npmnv2.serve.limits import Limits
    from npmnv2.serve.server import listen, run

    limits = Limits(**{field.name: getattr(options, field.name) for field in fields(Limits) if field.name in _LIMITS})
    token = os.environ.get(TOKEN, "").strip() or None
    with listen(options.host, options.port) as listener:
        catalog = Catalog(options.model or [DEFAULT_MODEL], options.backend, options.threads, options.precision)
        app = create_app(catalog, limits, host=options.host, token=token, workers=options.workers)
        host = f"[{options.host}]" if ":" in options.host else options.host
        url = f"http://{host}:{listener.getsockname()[1]}"
        if token is None and not is_loopback(options.host):
            log_stderr(f"anybody who reaches {url} can use it: set {TOKEN} to ask for a token")

        def ready() -> None:
            log_stderr(f"{', '.join(catalog.offers)} on {url} (Ctrl-C stops)")
            if options.open:
                import webbrowser

                webbrowser.open(url)

        run(app, listener, limits, ready)
    return 0
