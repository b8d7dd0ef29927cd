"""A client of an OpenAI-compatible endpoint.

It checks the API key, leaves out parameters that a model rejects, and explains errors.
"""

import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from stages.core.config.prompt import Endpoint
from stages.core.errors import UserError, hide_secrets

if TYPE_CHECKING:
    from openai import OpenAI, OpenAIError

log = logging.getLogger(__name__)
REFUSABLE = ("max_tokens", "temperature", "seed")  # parameters that some models reject
_REFUSED = re.compile(
    r"(?i)unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not (permitted|allowed)|extra_"
)
_KEPT = "The answers so far are kept. Run the command again to resume."


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the endpoint."""

    text: str
    """The text of the answer. Function calls are given as JSON, as in the target of a record."""
    prompt_tokens: int
    """Prompt tokens as the server counts them, or 0 if it does not report them. No prompt has 0."""
    completion_tokens: int
    seconds: float
    """Seconds from sending the request to the end of its answer, without earlier attempts and the
    pauses between them."""
    model: str
    """The model that answered, as the server reports it."""
    fingerprint: str | None
    """The `system_fingerprint` of the server's configuration, if the server reports it."""
    cut: bool
    """Whether the answer ended at `max_tokens`."""


class Client:
    """A client that threads can share."""

    def __init__(self, endpoint: Endpoint, section: str) -> None:
        """Make a client without sending anything yet.

        Args:
            endpoint: The address and settings of the endpoint.
            section: The full name of its section in the configuration, for messages.

        Raises:
            UserError: The package openai or the key is missing, or the address is invalid.
        """
        self.endpoint = endpoint
        self.section = section
        self._address = hide_secrets(endpoint.base_url)
        self._key = _get_key(endpoint, section)
        self._refused = set[str]()
        self._openai = self._connect()

    def _connect(self) -> "OpenAI":
        try:
            from openai import OpenAI
        except ModuleNotFoundError:
            raise UserError(
                f"{self.section} needs the package openai. Run "
                "`pip install -c constraints.txt --group remote`"
            ) from None
        here = self.endpoint
        # Without a key the package would send OPENAI_API_KEY to any server.
        key = self._key or "none"
        try:
            return OpenAI(
                base_url=here.base_url,
                api_key=key,
                timeout=here.timeout,
                max_retries=here.max_retries,
            )
        except Exception as error:
            # The HTTP library rejects the address of the endpoint or of a proxy.
            raise UserError(
                f"{self.section}.base_url: {self._address} cannot be used: {self._clean(error)}"
            ) from None

    def close(self) -> None:
        """Close all connections."""
        self._openai.close()

    def ask(self, parameters: dict[str, Any]) -> Reply:
        """Send one request; the package openai retries errors that may be temporary.

        Args:
            parameters: The parameters of a chat completion (`model`, `messages`, `max_tokens`, …).

        Raises:
            UserError: The endpoint gave no valid answer.
        """
        raw = self._send(parameters)
        try:
            return _read(raw.parse(), raw.elapsed.total_seconds())
        except (ValueError, TypeError, AttributeError, LookupError):
            raise UserError(
                f"{self.section}: {self._address} does not answer in the format of OpenAI's "
                f"API: {self._clean(raw.text)!r}. Check that {self.section}.base_url ends with /v1."
            ) from None

    def _send(self, parameters: dict[str, Any]) -> Any:
        """Send a request and return the raw response.

        Parameters that the model rejects are left out, also from all later requests.
        """
        import openai

        while True:
            given = {key: value for key, value in parameters.items() if key not in self._refused}
            if "max_tokens" in self._refused:
                given["max_completion_tokens"] = parameters["max_tokens"]
            try:
                return self._openai.chat.completions.with_raw_response.create(**given)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = next(
                    (name for name in REFUSABLE if name in given and _refuses(error, name)), None
                )
                if refused is None:
                    raise self._explain(error) from None
                if refused not in self._refused:
                    log.info(
                        "%s: %s rejects the parameter %s. Requests are sent without it.",
                        self.section,
                        self.endpoint.model,
                        refused,
                    )
                self._refused.add(refused)
            except openai.OpenAIError as error:
                raise self._explain(error) from None

    def _explain(self, error: "OpenAIError") -> UserError:
        """Explain in one message what went wrong and what to do."""
        import openai

        at = self.section
        here = self.endpoint
        said = self._clean(error)
        tries = f"{here.max_retries + 1} attempt(s)"
        key = f"the key in {here.api_key_env}" if here.api_key_env else "a request without a key"
        found = {
            openai.APITimeoutError: f"did not answer within {here.timeout} s in {tries}. "
            f"Increase {at}.timeout or lower {at}.max_concurrency. {_KEPT}",
            openai.APIConnectionError: "cannot be reached: "
            f"{self._clean(error.__cause__ or error)}. Check that the server is running and that "
            f"{at}.base_url is right, and whether a proxy (HTTPS_PROXY) is in the way. {_KEPT}",
            openai.AuthenticationError: f"rejects {key}. Store a valid key in an environment "
            f"variable and set {at}.api_key_env to its name.",
            openai.PermissionDeniedError: f"denies access to {key}: {said}. Ask for access or "
            "choose another model.",
            openai.NotFoundError: f"was not found: {said}. {self._address}/models lists the available "
            f"models. Check that {at}.base_url ends with /v1.",
            openai.RateLimitError: f"still refuses requests after {tries}: {said}. "
            f"Lower {at}.max_concurrency, increase {at}.max_retries, or check your quota. {_KEPT}",
            openai.InternalServerError: f"failed in {tries}: {said}. Look at the server's log, or "
            f"try again later. {_KEPT}",
        }
        otherwise = (
            f"rejects a request: {said}. If the request is too long, show fewer examples or choose "
            "another model."
        )
        text = next((text for kind, text in found.items() if isinstance(error, kind)), otherwise)
        return UserError(f"{at}: {here.model} at {self._address} {text}")

    def _clean(self, error: object) -> str:
        """Return the message of a server or library in one line, without the key."""
        body = getattr(error, "body", None)
        # OpenAI uses `message`, FastAPI `detail`.
        inside = (body.get("message") or body.get("detail")) if isinstance(body, dict) else None
        text = str(inside or body or error)
        text = text.replace(self._key, "…") if self._key else text
        return " ".join(hide_secrets(text).split())[:300].rstrip(". ") or type(error).__name__


def _refuses(error: "OpenAIError", name: str) -> bool:
    """Return whether the server says that it does not know or does not accept a parameter."""
    said = str(getattr(error, "body", None))
    return bool(re.search(rf"\b{name}\b", said) and _REFUSED.search(said))


def _get_key(endpoint: Endpoint, section: str) -> str | None:
    variable = endpoint.api_key_env
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            f"{section}: set the environment variable {variable} to the key of "
            f"{hide_secrets(endpoint.base_url)}"
        )
    if not re.fullmatch(r"[\x21-\x7e]+", key):  # the library would quote the key in its error
        raise UserError(
            f"{section}: the environment variable {variable} does not hold a valid key: its value "
            "contains spaces or non-ASCII characters"
        )
    return key


def _read(completion: Any, seconds: float) -> Reply:
    """Read the server's reply; a missing field raises, because then the format is another one."""
    choice = completion.choices[0]
    usage = completion.usage
    text = choice.message.content or ""
    if not text and choice.message.tool_calls:
        text = orjson.dumps([_read_call(call) for call in choice.message.tool_calls]).decode()
    if not isinstance(text, str):
        raise TypeError("the content of the message is not a string")
    return Reply(
        text=text,
        prompt_tokens=getattr(usage, "prompt_tokens", None) or 0,
        completion_tokens=getattr(usage, "completion_tokens", None) or 0,
        seconds=seconds,
        model=completion.model or "",
        fingerprint=completion.system_fingerprint,
        cut=choice.finish_reason == "length",
    )


def _read_call(call: Any) -> dict[str, Any]:
    """Convert a call to the form of a record, with parsed arguments if they are valid JSON."""
    arguments = call.function.arguments
    try:
        arguments = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        arguments = str(arguments)
    return {"type": "function", "function": {"name": call.function.name, "arguments": arguments}}
