"""Errors in OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`.

The `openai` client reads `code`, `param` and `type` from it. FastAPI's own `detail` gives it none.
"""

import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

log = logging.getLogger(__name__)

CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "too_short": "empty_array",
    "too_long": "array_above_max_length",
    "string_too_short": "empty_string",
    "json_invalid": "invalid_json",
    "unsupported_parameter": "unsupported_parameter",
}
"""OpenAI's codes by the types of pydantic's errors. The code of all others is below."""
BOUNDS = {
    "less_than_equal": "above_max_value",
    "less_than": "above_max_value",
    "greater_than_equal": "below_min_value",
    "greater_than": "below_min_value",
}
LEFT = 499  # nginx's status of a request whose client has left


class ClientLeftError(Exception):
    """The client has closed the connection."""


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take the HTTP status, the text, and what OpenAI calls the code and the parameter."""
        super().__init__(message)
        self.status = status
        self.body = describe(status, message, code, param)
        self.headers = dict(headers or {})

    def respond(self) -> JSONResponse:
        """Return the response."""
        return JSONResponse(self.body, self.status, self.headers)


def describe(status: int, message: str, code: str | None, param: str | None) -> dict[str, Any]:
    """Return the body of an error."""
    kind = "invalid_request_error"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        kind = "rate_limit_error"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def unsupported(param: str, why: str) -> ApiError:
    """Return the error of a parameter that OpenAI has and this server cannot give."""
    return ApiError(400, f"Unsupported parameter: '{param}'. {why}", "unsupported_parameter", param)


def add_handlers(app: FastAPI) -> None:
    """Let an application answer every error in OpenAI's shape."""

    @app.exception_handler(ApiError)
    async def refuse(_: Request, error: ApiError) -> JSONResponse:
        return error.respond()

    @app.exception_handler(RequestValidationError)
    async def refuse_values(_: Request, error: RequestValidationError) -> JSONResponse:
        return explain(error.errors()[0]).respond()

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        what = f"{error.detail}: {request.method} {request.url.path}"
        return JSONResponse(
            describe(error.status_code, what, None, None), error.status_code, error.headers
        )

    @app.exception_handler(ClientLeftError)
    async def note(_: Request, __: ClientLeftError) -> JSONResponse:
        # Nobody reads it, but the metrics count its status, and no failure of the server.
        return JSONResponse(describe(LEFT, "The client has left.", None, None), LEFT)

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> JSONResponse:
        log.error("A request failed: %s", describe_place(error))
        return JSONResponse(describe(500, "The server failed.", "server_error", None), 500)


def describe_place(error: BaseException) -> str:
    """Say where an exception was raised, without its message, which may hold the text of a client."""
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    return f"{type(error).__name__}\n{frames}"


def explain(problem: Mapping[str, Any]) -> ApiError:
    """Turn the first of pydantic's problems with a body into an error."""
    context = problem.get("ctx") or {}
    param = context.get("param") or _name(problem["loc"][1:])
    kind = problem["type"]
    if kind == "json_invalid" or (param is None and kind not in CODES):
        return ApiError(400, "The body is not a JSON object.", "invalid_json")
    if kind == "missing" and param is None:
        return ApiError(400, "The body is empty. It must be a JSON object.", "invalid_json")
    message = problem["msg"].removeprefix("Value error, ")
    if kind in ("missing", "extra_forbidden"):
        what = "Missing required" if kind == "missing" else "Unknown"
        return ApiError(400, f"{what} parameter: '{param}'.", CODES[kind], param)
    return ApiError(400, f"Invalid '{param}': {message}.".replace("..", "."), _code(problem), param)


def _code(problem: Mapping[str, Any]) -> str:
    kind = problem["type"]
    if kind in BOUNDS:
        limit = next(iter(problem["ctx"].values()))
        return f"{'integer' if isinstance(limit, int) else 'decimal'}_{BOUNDS[kind]}"
    return CODES.get(kind) or ("invalid_type" if kind.endswith("_type") else "invalid_value")


def _name(place: tuple[str | int, ...]) -> str | None:
    """Write the place of a value as OpenAI does, such as `messages[0].role`."""
    name = ""
    for part in place:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.removeprefix(".") or None
