"""The public routes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from lets import __version__
from lets.serve import page, schemas
from lets.serve.access_log import AccessLog
from lets.serve.auth import Auth
from lets.serve.compare import Comparison
from lets.serve.errors import VALIDATION, ApiError
from lets.serve.info import Info
from lets.serve.limits import Limits
from lets.serve.responses import answers, call_cost, predictions, read_inputs, usage
from lets.serve.service import Service


def public_app(service: Service) -> Any:
    """The ASGI application that everybody may reach."""
    app = new_app("LeTS: many text classifiers, one pass")
    info, comparison = Info(service), Comparison(service)
    add_health(app, service)

    async def predict(request: Request, wanted: schemas.PredictRequest, name: str | None) -> Any:
        begun, loaded = time.perf_counter(), service.engine.task_set
        if wanted.truncation_direction.lower() != "right":
            raise ApiError(
                422, VALIDATION, "direction", "`truncation_direction` must be `right`: the tasks "
                "were trained on the beginnings of texts",
            )  # fmt: skip
        name = wanted.task if name is None else name
        if name is None:
            if len(loaded.tasks) != 1:
                raise ApiError(
                    422, VALIDATION, "tasks", "`task` must name one of several tasks: "
                    f"{', '.join(sorted(loaded.tasks)) or 'none is loaded'}",
                )  # fmt: skip
            (name,) = loaded.tasks
        pairs = loaded.tasks[name].is_pair if name in loaded.tasks else None
        texts, single = read_inputs(wanted.inputs, pairs)
        job, outputs = await service.answer(loaded, texts, [name], wanted.truncate)
        found = predictions(outputs[name], name, job.loaded.tasks[name], wanted.raw_scores)
        spent = request.scope["lets.usage"] = usage(job, time.perf_counter() - begun)
        return JSONResponse(found[0] if single else found, headers=_usage_headers(spent))

    shapes = list[schemas.Prediction] | list[list[schemas.Prediction]]
    routes: dict[str, Any] = {"response_model": shapes, "responses": schemas.ERRORS}

    @app.post("/predict", **routes)
    async def predict_one_task(request: Request, wanted: schemas.PredictRequest) -> Any:
        """Scores of all labels of one task, the best first."""
        return await predict(request, wanted, None)

    @app.post("/v1/classify", response_model=schemas.ClassifyResponse, responses=schemas.ERRORS)
    async def classify(request: Request, wanted: schemas.ClassifyRequest) -> Any:
        """Every task's answer to every text."""
        begun, loaded = time.perf_counter(), service.engine.task_set
        kinds = {
            loaded.tasks[name].is_pair for name in wanted.tasks or loaded.tasks
            if name in loaded.tasks
        }  # fmt: skip
        texts, _ = read_inputs(wanted.inputs, kinds == {True})
        job, outputs = await service.answer(loaded, texts, wanted.tasks, wanted.truncate)
        results = answers(outputs, job, wanted.raw_scores, wanted.all_scores)
        cost = call_cost(job, service.costs)
        spent = request.scope["lets.usage"] = usage(job, time.perf_counter() - begun)
        return JSONResponse(
            {"results": results, "usage": spent, "cost": cost}, headers=_usage_headers(spent)
        )

    @app.get("/info")
    async def describe() -> Any:
        """The encoder, the limits, the tasks, and what they share and cost."""
        return JSONResponse(await info.describe())

    @app.get("/architecture.svg")
    async def drawing() -> Response:
        """The tasks' policies beside the frozen encoder."""
        return Response(info.drawing(), media_type="image/svg+xml")

    if service.settings.page:
        page.add_pages(app)

        @app.post("/v1/compare", response_model=schemas.CompareResponse, responses=schemas.ERRORS)
        async def compare(wanted: schemas.CompareRequest) -> Any:
            """Time one text here and now beside one dense model a task. For the page."""
            return JSONResponse(await comparison.measure(wanted.inputs, wanted.tasks))

    # Last: a task may have any name that is not a route's.
    @app.post("/{task}/predict", **routes)
    async def predict_named_task(
        request: Request, task: str, wanted: schemas.PredictRequest
    ) -> Any:
        """`/predict` of the task in the path."""
        return await predict(request, wanted, task)

    return guarded(app, service, service.settings.api_key)


def new_app(title: str) -> FastAPI:
    """Errors look alike everywhere; the interactive pages of FastAPI load scripts from elsewhere,
    so they are off."""
    app = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    return app


def add_health(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> Response:
        """200 while requests are taken; needs no key."""
        return Response(status_code=503 if service.draining else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def guarded(app: Any, service: Service, key: str | None) -> Any:
    """An application behind the log, the key and the limits."""
    return AccessLog(Auth(Limits(app, service), key), service.metrics)


def _usage_headers(spent: Mapping[str, Any]) -> dict[str, str]:
    """Headers of text-embeddings-inference; times in whole milliseconds."""
    return {
        "x-compute-tokens": str(spent["tokens"]),
        "x-total-time": str(round(spent["total_ms"])),
        "x-queue-time": str(round(spent["queue_ms"])),
        "x-inference-time": str(round(spent["engine_ms"])),
    }


async def _api_error(request: Request, error: Any) -> JSONResponse:
    request.scope["lets.reason"] = error.reason
    return JSONResponse(error.body, error.status, headers=dict(error.headers))


async def _invalid(request: Request, error: Any) -> JSONResponse:
    """What is wrong and where, without the input itself, which may be large."""
    request.scope["lets.reason"] = "schema"
    first = error.errors()[0]
    malformed = first["type"] == "json_invalid"
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    message = "the body is not JSON" if malformed else f"{where or 'body'}: {first['msg']}"
    status = 400 if malformed else 422
    return JSONResponse({"error": message, "error_type": VALIDATION}, status)


async def _http_error(request: Request, error: Any) -> JSONResponse:
    request.scope["lets.reason"] = "http"
    return JSONResponse(
        {"error": str(error.detail), "error_type": VALIDATION},
        error.status_code,
        headers=error.headers,
    )
