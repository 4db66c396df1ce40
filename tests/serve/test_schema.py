"""The description of the API names what the API says."""

from __future__ import annotations

from typing import get_type_hints

import pytest

pytest.importorskip("fastapi")

from npmnv2.results.prediction import CandidateDict, PredictionDict
from npmnv2.results.profile import Timing
from npmnv2.results.segmentation import RegionDict, SegmentationDict
from npmnv2.serve import schema

EXTRA = {"mask", "profile"}


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (schema.Candidate, CandidateDict),
        (schema.Prediction, PredictionDict),
        (schema.Region, RegionDict),
        (schema.Segmentation, SegmentationDict),
        (schema.LayerTime, Timing),
    ],
)
def test_results_have_the_fields_of_the_command_line(described, said) -> None:
    assert set(described.model_fields) - EXTRA == set(get_type_hints(said))


def test_answers_fit_their_description(site, photo) -> None:
    for path in ("predict?profile=true", "predict?model=segmenta&mask=true", "features", "features?endpoint=block_15"):
        model = schema.Predictions if path.startswith("predict") else schema.Embeddings
        answer = site.post(f"/v1/{path}", photo)
        assert model.model_validate_json(answer.body).model_dump(exclude_unset=True) == answer.json
    assert schema.Models.model_validate_json(site.get("/v1/models").body)


def test_openapi_describes_every_path(site) -> None:
    description = site.get("/openapi.json").json
    assert set(description["paths"]) == {"/v1/predict", "/v1/features", "/v1/models", "/healthz", "/metrics"}
    predict = description["paths"]["/v1/predict"]["post"]
    assert {parameter["name"] for parameter in predict["parameters"]} == {
        "model", "precision", "top_k", "threshold", "mask", "profile",
    }  # fmt: skip
    assert set(predict["requestBody"]["content"]) == {"multipart/form-data", "image/*"}
    assert {"200", "400", "401", "408", "413", "415", "422", "429", "500", "503"} <= set(predict["responses"])
