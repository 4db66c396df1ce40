"""The shape of what the server says, for its OpenAPI description. Results are those of ``npmnv2 predict --json``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Candidate(BaseModel):
    """One class of a prediction: `npmnv2.results.prediction.Candidate`."""

    index: int
    wnid: str | None
    label: str
    score: float


class LayerTime(BaseModel):
    """Time of one layer: `npmnv2.results.profile.Timing`."""

    name: str
    seconds: float
    multiply_adds: int
    busy: list[float]


class Result(BaseModel):
    """What every result has."""

    source: str | None = Field(description="The file's name, if the client gave one.")


class Prediction(Result):
    """The likeliest classes of a photo, best first."""

    candidates: list[Candidate]
    profile: list[LayerTime] | None = Field(None, description="With profile=true.")


class Region(BaseModel):
    """One class that occurs in a photo: `npmnv2.results.segmentation.Region`."""

    index: int
    label: str
    color: str
    pixels: int
    share: float


class Segmentation(Result):
    """The classes of a photo's pixels, largest first."""

    width: int
    height: int
    legend: list[Region]
    mask: str | None = Field(None, description="With mask=true: a palette PNG in base64, whose values are classes.")
    profile: list[LayerTime] | None = Field(None, description="With profile=true.")


class Detection(BaseModel):
    """One thing on a photo: `npmnv2.results.detection.Detection`."""

    label: str
    id: int
    score: float
    box: list[float] = Field(description="Left, top, right, bottom in the photo's pixels.")


class Detections(Result):
    """What was found on a photo, by descending score."""

    detections: list[Detection]
    profile: list[LayerTime] | None = Field(None, description="With profile=true.")


class Failure(Result):
    """A photo among several that could not be used."""

    error: str


class Features(Result):
    """The embedding of a photo, or its feature maps (height, width, channels) by endpoint."""

    features: list[float] | dict[str, Any]


class Predictions(BaseModel):
    """One result for each photo, in order."""

    model: str
    precision: str
    task: str
    results: list[Prediction | Segmentation | Detections | Failure]


class Embeddings(BaseModel):
    """One result for each photo, in order."""

    model: str
    precision: str
    results: list[Features | Failure]


class Model(BaseModel):
    """A model of this server; the first is the default, as is the first of its precisions."""

    name: str
    task: str
    precisions: list[str]
    image_size: int
    classes: int
    backend: str
    colors: list[str] = Field(description="Of classes over photos, by index or id; empty for classifiers.")


class Models(BaseModel):
    """The models of this server."""

    models: list[Model]


class Health(BaseModel):
    """That the server answers."""

    status: str


class Problem(BaseModel):
    """What is wrong with a request, and how to mend it."""

    detail: str
