"""Requests and answers of the public API; what /openapi.json describes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field, StrictBool, StrictStr

_FORMS = (
    "One text; a list of texts (for a task on pairs, two strings are one pair); or a batch "
    "`[[text], …]` or `[[text, text], …]`."
)


class _First(FailFast):
    """A list of things that are no texts has one error, not 400,000 that take seconds."""

    __hash__ = object.__hash__  # unions of annotated types ask for it


Strings = Annotated[list[StrictStr], _First()]
Inputs = StrictStr | Strings | Annotated[list[Strings], _First()]


class PredictRequest(BaseModel):
    """text-embeddings-inference's request; `task` is needed where several are loaded."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": "Stocks fell on Friday.", "raw_scores": False}]}
    )
    inputs: Inputs = Field(description=_FORMS)
    raw_scores: StrictBool = Field(False, description="Logits in place of probabilities.")
    truncate: StrictBool | None = Field(None, description="Cut longer texts; null: as /info says.")
    truncation_direction: StrictStr = Field("right", description="Only `right` is supported.")
    task: StrictStr | None = None


class Prediction(BaseModel):
    """`label` is the task's name where it answers with a number."""

    score: float
    label: str


class ClassifyRequest(BaseModel):
    """Many texts, many tasks, one pass of the encoder."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": ["Stocks fell.", "You won!"], "tasks": None}]}
    )
    inputs: Inputs = Field(description=_FORMS)
    tasks: Strings | None = Field(None, description="Default: all that fit the inputs.")
    raw_scores: StrictBool = False
    all_scores: StrictBool = Field(False, description="Also the score of every label.")
    truncate: StrictBool | None = None


class Answer(BaseModel):
    """`label` is null where the answer is a number: the score."""

    label: str | None
    score: float
    scores: dict[str, float] | None = None


class Usage(BaseModel):
    """What answering took. The engine's calls may have held other clients' texts too."""

    texts: int
    tokens: int
    queue_ms: float
    engine_ms: float
    total_ms: float
    batch_rows: int = Field(description="Texts of the largest call of the engine.")


class CostOfCall(BaseModel):
    """Operations for these texts without padding, beside one dense model a task."""

    shared_gflop: float
    own_gflop: float
    dense_gflop: float


class ClassifyResponse(BaseModel):
    results: list[dict[str, Answer]]
    usage: Usage
    cost: CostOfCall


class CompareRequest(BaseModel):
    inputs: StrictStr
    tasks: Strings | None = None


class CompareResponse(BaseModel):
    """Measured now, one text: the tasks, and a dense pass of the same encoder for each of them."""

    tasks: int
    tokens: int
    lets_ms: float
    one_dense_ms: float
    dense_ms: float
    ratio: float
    flop_ratio: float


class ErrorBody(BaseModel):
    error: str
    error_type: str


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        400: "No JSON, or not UTF-8.",
        401: "No valid key.",
        404: "No such task.",
        408: "The body came too slowly.",
        413: "Too many bytes, texts or tokens.",
        422: "Inputs that the tasks cannot answer.",
        429: "Busy; see Retry-After.",
        503: "Timed out, or shutting down.",
    }.items()
}
