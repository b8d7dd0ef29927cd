"""A connection to an OpenAI-compatible endpoint: the key, the parameters that a model refuses, what went wrong."""

import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from stages.core.config.prompt import Endpoint
from stages.core.errors import UserError

if TYPE_CHECKING:
    from openai import OpenAI, OpenAIError

log = logging.getLogger(__name__)
REFUSABLE = ("max_tokens", "temperature", "seed")  # what some models do not take
_REFUSED = re.compile(
    r"(?i)unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not (permitted|allowed)|extra_"
)
_KEPT = "What it has answered is kept: run again to go on."


@dataclass(frozen=True, slots=True)
class Reply:
    """What the endpoint answered."""

    text: str
    """A call of functions as JSON, as in the target of a record."""
    prompt_tokens: int
    """As the server counts them; 0, which no prompt has, where it does not tell."""
    completion_tokens: int
    seconds: float
    """From sending the request that was answered to the end of its answer, without earlier tries and their pauses."""
    model: str
    """Who answered, as the server says."""
    fingerprint: str | None
    """Of the server's configuration (`system_fingerprint`), where it tells."""
    cut: bool
    """Whether the answer ended at `max_tokens`."""


class Client:
    """A connection that threads share."""

    def __init__(self, endpoint: Endpoint, section: str) -> None:
        """Connect to nothing yet.

        Args:
            endpoint: where and how to ask.
            section: the full name of its section in the configuration, for messages.

        Raises:
            UserError: the package openai or the key is missing, or the address is none.
        """
        self.endpoint = endpoint
        self.section = section
        self._key = _get_key(endpoint, section)
        self._refused = set[str]()
        self._openai = self._connect()

    def _connect(self) -> "OpenAI":
        try:
            from openai import OpenAI
        except ModuleNotFoundError:
            raise UserError(
                f"{self.section} needs the package openai: `pip install -c constraints.txt '.[remote]'`"
            ) from None
        here = self.endpoint
        key = self._key or "none"  # without any the package would send OPENAI_API_KEY to everyone
        try:
            return OpenAI(
                base_url=here.url, api_key=key, timeout=here.timeout, max_retries=here.retries
            )
        except (
            Exception
        ) as error:  # of the library below, which refuses the address, or that of a proxy
            raise UserError(
                f"{self.section}.url: {here.url} cannot be used: {self._clean(error)}"
            ) from None

    def close(self) -> None:
        """End the connections."""
        self._openai.close()

    def ask(self, parameters: dict[str, Any]) -> Reply:
        """Ask once; the package tries again where that may help.

        Args:
            parameters: of a chat completion (`model`, `messages`, `max_tokens`, …).

        Raises:
            UserError: there is no answer.
        """
        raw = self._send(parameters)
        try:
            return _read(raw.parse(), raw.elapsed.total_seconds())
        except (ValueError, TypeError, AttributeError, LookupError):
            raise UserError(
                f"{self.section}: {self.endpoint.url} answers, but not as OpenAI's API does: "
                f"{self._clean(raw.text)!r}. Does {self.section}.url go up to and with /v1?"
            ) from None

    def _send(self, parameters: dict[str, Any]) -> Any:
        """The raw response; what the model refuses to be told is left out, of the other requests too."""
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
                        "%s: %s refuses %s and is asked without it",
                        self.section,
                        self.endpoint.model,
                        refused,
                    )
                self._refused.add(refused)
            except openai.OpenAIError as error:
                raise self._explain(error) from None

    def _explain(self, error: "OpenAIError") -> UserError:
        """What went wrong and what to do, in one message."""
        import openai

        at = self.section
        here = self.endpoint
        said = self._clean(error)
        tries = f"{here.retries + 1} time(s)"
        key = f"the key in {here.key_variable}" if here.key_variable else "a request without a key"
        found = {
            openai.APITimeoutError: f"did not answer within {here.timeout} s, asked {tries}. Raise {at}.timeout or "
            f"lower {at}.parallel. {_KEPT}",
            openai.APIConnectionError: f"cannot be reached: {self._clean(error.__cause__ or error)}. Is the server up, "
            f"is {at}.url right, does a proxy (HTTPS_PROXY) stand between? {_KEPT}",
            openai.AuthenticationError: f"refuses {key}. Put a valid key into an environment variable and the name of "
            f"the variable into {at}.key_variable.",
            openai.PermissionDeniedError: f"does not serve {key}: {said}. Ask for access, or choose another model.",
            openai.NotFoundError: f"is not there: {said}. {here.url}/models lists the models; {at}.url goes up to and "
            "with /v1.",
            openai.RateLimitError: f"still refuses after it was asked {tries}: {said}. Lower {at}.parallel, raise "
            f"{at}.retries, or look at your quota. {_KEPT}",
            openai.InternalServerError: f"failed {tries}: {said}. Look at the server's log, or try later. {_KEPT}",
        }
        otherwise = f"refuses a request: {said}. If it is too long, show fewer examples, or choose another model."
        text = next((text for kind, text in found.items() if isinstance(error, kind)), otherwise)
        return UserError(f"{at}: {here.model} at {here.url} {text}")

    def _clean(self, error: object) -> str:
        """What a server or a library said, in a line, without the key."""
        body = getattr(error, "body", None)
        inside = (
            (body.get("message") or body.get("detail")) if isinstance(body, dict) else None
        )  # OpenAI's, FastAPI's
        text = str(inside or body or error)
        text = text.replace(self._key, "…") if self._key else text
        return " ".join(text.split())[:300].rstrip(". ") or type(error).__name__


def _refuses(error: "OpenAIError", name: str) -> bool:
    """Whether the server says that it does not know, or does not take, a parameter."""
    said = str(getattr(error, "body", None))
    return bool(re.search(rf"\b{name}\b", said) and _REFUSED.search(said))


def _get_key(endpoint: Endpoint, section: str) -> str | None:
    variable = endpoint.key_variable
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            f"{section}: set the environment variable {variable} to the key of {endpoint.url}"
        )
    if not re.fullmatch(r"[\x21-\x7e]+", key):  # the library would quote it in its error
        raise UserError(
            f"{section}: the environment variable {variable} holds no key: it has spaces or letters beyond ASCII"
        )
    return key


def _read(completion: Any, seconds: float) -> Reply:
    """The reply of the server; whatever is missing raises, for then it speaks another language."""
    choice = completion.choices[0]
    usage = completion.usage
    text = choice.message.content or ""
    if not text and choice.message.tool_calls:
        text = orjson.dumps([_read_call(call) for call in choice.message.tool_calls]).decode()
    if not isinstance(text, str):
        raise TypeError("content is no text")
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
    """A call as in a record, its arguments as JSON where they are."""
    arguments = call.function.arguments
    try:
        arguments = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        arguments = str(arguments)
    return {"type": "function", "function": {"name": call.function.name, "arguments": arguments}}
