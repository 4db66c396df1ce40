"""The application: the page, and the API beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Annotated, Any, NamedTuple

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

import npmnv2
from npmnv2.errors import ArgumentError, ImageError
from npmnv2.kernels.host.cpus import usable_cpus
from npmnv2.results.pictures import display_colors
from npmnv2.serve import schema
from npmnv2.serve.answers import Answerer, Question, batch_size
from npmnv2.serve.catalog import Catalog, Choice, Offer
from npmnv2.serve.guard import Guard
from npmnv2.serve.limits import Limits
from npmnv2.serve.metrics import Metrics
from npmnv2.serve.scheduler import Busy, Scheduler
from npmnv2.serve.uploads import Body, Held, Refused, Upload

# More workers than this wait for Python's lock, not for a processor.
MAX_WORKERS = 8

# Paths of the page's files, below the package, and their types.
_PAGE = {
    "/": ("serve/page/index.html", "text/html"),
    "/style.css": ("serve/page/style.css", "text/css"),
    "/app.js": ("serve/page/app.js", "text/javascript"),
    "/icon.svg": ("serve/page/icon.svg", "image/svg+xml"),
    "/cat.jpg": ("data/cat.jpg", "image/jpeg"),
}

_PHOTOS = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": schema.Problem, "description": text}
    for status, text in (
        (400, "No photo, or an argument that is not possible"),
        (401, "The token is missing or wrong"),
        (408, "The photos did not arrive in time"),
        (413, "Too many bytes or pixels"),
        (415, "Not a photo"),
        (422, "A damaged photo, or an argument of the wrong type"),
        (429, "The queue is full; Retry-After says when to come back"),
        (500, "A failure of the server"),
        (503, "The answer was not ready in time"),
    )
}


class _Server(NamedTuple):
    """What the handlers share."""

    catalog: Catalog
    limits: Limits
    held: Held
    scheduler: Scheduler
    metrics: Metrics


def create_app(
    catalog: Catalog,
    limits: Limits | None = None,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    workers: int | None = None,
) -> Guard:
    """Make the ASGI application.

    Parameters
    ----------
    catalog : Catalog
    limits : Limits, optional
    host : str
        The address that it will listen on, see `Guard`.
    token : str, optional
        What clients must show.
    workers : int, optional
        Threads that compute; one for each CPU that this process may use, up to `MAX_WORKERS`, if not given.
    """
    limits = limits or Limits()
    held = Held(limits.held_bytes)
    count = workers or min(usable_cpus(), MAX_WORKERS)
    scheduler = Scheduler(Answerer(catalog, limits), limits.queue, count, batch_size)
    server = _Server(catalog, limits, held, scheduler, Metrics(scheduler, held))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        scheduler.start()
        yield
        await asyncio.to_thread(scheduler.close)

    # The usual pages of documentation load their scripts from elsewhere.
    app = FastAPI(
        title="npmnv2",
        version=npmnv2.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_page(app)
    _add_api(app, server)
    _add_problems(app)
    paths = {getattr(route, "path", "") for route in app.routes}
    return Guard(app, server.metrics, paths, host, token)


def _add_page(app: FastAPI) -> None:
    for path, (file, kind) in _PAGE.items():
        app.router.add_route(path, _file(file, kind), methods=["GET"], include_in_schema=False)


def _file(file: str, kind: str) -> Callable[[Request], Response]:
    content = resources.files("npmnv2").joinpath(file).read_bytes()
    return lambda _: Response(content, media_type=kind, headers={"cache-control": "no-cache"})


def _add_api(app: FastAPI, server: _Server) -> None:
    photos: Any = {"openapi_extra": {"requestBody": _PHOTOS}, "responses": _PROBLEMS}

    @app.post("/v1/predict", response_model=schema.Predictions, **photos)
    async def predict(
        request: Request,
        model: Annotated[str | None, Query(description="A name of /v1/models.")] = None,
        precision: Annotated[str | None, Query(description="One of the model's.")] = None,
        top_k: Annotated[int, Query(ge=1, le=1001, description="Classes of a photo, for classifiers.")] = 5,
        threshold: Annotated[float, Query(ge=0, le=1, description="Least score of a box, for detectors.")] = 0.5,
        mask: Annotated[bool, Query(description="Also the label map, for segmentation models.")] = False,
        profile: Annotated[bool, Query(description="Also the time of every layer, from a second run.")] = False,
    ) -> Response:
        """Classify photos, their pixels or the objects on them, as the model does."""
        choice = server.catalog.choose(model, precision)
        task = server.catalog.offers[choice.name].model.task
        if task == "features":
            raise ArgumentError(f"model (={choice.name!r}) has no classes: ask /v1/features")
        options = {"classification": (("top_k", top_k),), "detection": (("threshold", threshold),)}
        question = Question(choice, task, options.get(task, ()), mask=mask, profile=profile)
        return _response(choice, await _results(request, server, question), task=task)

    @app.post("/v1/features", response_model=schema.Embeddings, **photos)
    async def features(
        request: Request,
        model: Annotated[str | None, Query(description="A name of /v1/models.")] = None,
        precision: Annotated[str | None, Query(description="One of the model's.")] = None,
        endpoint: Annotated[list[str] | None, Query(max_length=4, description="Such as block_13_expand.")] = None,
    ) -> Response:
        """Embed photos, or read feature maps inside the network."""
        choice = server.catalog.choose(model, precision)
        for name in endpoint or ():
            server.catalog.offers[choice.name].model.plan.resolve(name)
        question = Question(choice, "features", endpoints=tuple(endpoint or ()))
        return _response(choice, await _results(request, server, question))

    @app.get("/v1/models", response_model=schema.Models)
    async def models() -> dict[str, Any]:
        """Name the models of this server."""
        return {"models": [_describe(offer) for offer in server.catalog.offers.values()]}

    @app.get("/healthz", response_model=schema.Health)
    async def healthz() -> dict[str, str]:
        """Say that the server answers."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Give Prometheus its numbers."""
        return Response(server.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_problems(app: FastAPI) -> None:
    """Let every error have the form of FastAPI's own: one sentence."""

    @app.exception_handler(ArgumentError)
    async def impossible(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    @app.exception_handler(RequestValidationError)
    async def wrong_type(_: Request, error: Any) -> JSONResponse:
        return JSONResponse({"detail": "; ".join(map(_sentence, error.errors()))}, 422)

    @app.exception_handler(Exception)
    async def failure(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "the server failed; what it printed says why"}, 500)


def _sentence(error: Mapping[str, Any]) -> str:
    """One of Pydantic's findings as this project says it."""
    message = error["msg"].removeprefix("Input ")
    return f"{error['loc'][-1]} (={error['input']!r}): {message}"


async def _results(request: Request, server: _Server, question: Question) -> list[dict[str, Any]]:
    """The answers for all photos of a request; of several photos one that cannot be used is a row with its error."""
    async with Body(request, server.limits, server.held) as body:
        uploads = await body.uploads()
        answers = await _answers(server, question, [upload.content for upload in uploads])
    for answer in answers:
        server.metrics.count_image(*question.choice, not isinstance(answer, BaseException))
    for error in answers:
        if isinstance(error, BaseException) and not isinstance(error, ImageError):
            raise error
        if isinstance(error, ImageError) and len(uploads) == 1:
            raise HTTPException(error.status if isinstance(error, Refused) else 422, str(error))
    return [_named(upload, answer) for upload, answer in zip(uploads, answers)]


async def _answers(server: _Server, question: Question, images: Sequence[bytes]) -> list[Any]:
    try:
        futures = [asyncio.wrap_future(future) for future in server.scheduler.submit(question, images)]
    except Busy as busy:
        raise HTTPException(429, str(busy), {"Retry-After": str(busy.retry_after)}) from None
    together = asyncio.gather(*futures, return_exceptions=True)
    try:
        return await asyncio.wait_for(together, server.limits.seconds)
    except asyncio.TimeoutError:
        message = f"the answer was not ready within {server.limits.seconds:g} s"
        raise HTTPException(503, message, {"Retry-After": "1"}) from None


def _named(upload: Upload, answer: dict[str, Any] | BaseException) -> dict[str, Any]:
    result = {"error": str(answer)} if isinstance(answer, BaseException) else answer
    return {**result, "source": upload.name} if "source" in result else {"source": upload.name, **result}


def _response(choice: Choice, results: Sequence[dict[str, Any]], **facts: str) -> Response:
    # Not through the schema, which would check every number anew.
    content = {**choice._asdict(), **facts, "results": results}
    content = {"model": content.pop("name"), **content}
    return Response(json.dumps(content, ensure_ascii=False).encode(), media_type="application/json")


def _describe(offer: Offer) -> dict[str, Any]:
    model = offer.model
    drawn = len(model.labels) + 1 if model.task in ("segmentation", "detection") else 0
    return {
        "name": offer.name,
        "task": model.task,
        "precisions": list(offer.precisions),
        "image_size": model.config.image_size,
        "classes": model.config.classes,
        "backend": model.backend.name,
        "colors": ["#" + bytes(map(int, color)).hex() for color in display_colors(drawn)],
    }
