"""Cached chat requests to a model behind an OpenAI-compatible endpoint.

Every reply is kept, so that no request is sent, or paid for, twice. The replies are in the cache
(`TUNEPROOF_CACHE`) under `replies/<endpoint>/<request>.json`, named by the SHA-256 of the request.
Delete a folder there to send its requests again. The API key is read from the environment and is
never written to these files.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import orjson

from stages.core.config.prompt import Endpoint
from stages.core.data.records import Message
from stages.core.endpoint.client import Client, Reply
from stages.core.errors import UserError
from stages.core.storage.cache import cached_folder, locked
from stages.core.storage.files import sha256_json, write_json


@dataclass(frozen=True, slots=True)
class Request:
    """One chat that the endpoint answers at temperature 0."""

    messages: Sequence[Message]
    """Messages in the form of a record."""
    max_tokens: int
    """The number of tokens after which the answer is cut."""
    seed: int
    tools: Sequence[dict[str, Any]] = field(default_factory=tuple)
    """Definitions of the functions that may be called."""


def chat(endpoint: Endpoint, requests: Sequence[Request], section: str) -> list[Reply]:
    """Get the replies to all requests, in the order given, and show a progress bar.

    `endpoint.max_concurrency` requests are sent at the same time. Processes that use the same model
    wait for each other, so that none pays for a request that another has sent.

    Args:
        endpoint: The address and settings of the endpoint.
        requests: The chats to answer. Equal requests are sent once.
        section: The full name of the endpoint's section in the configuration, for messages.

    Raises:
        UserError: The package openai or the key is missing, or the endpoint cannot answer. The
            replies received until then are kept. Or a reply in the cache is damaged.
    """
    asked = [_describe(endpoint, request) for request in requests]
    folder = cached_folder(
        f"replies/{sha256_json([endpoint.base_url, endpoint.model])[:16]}",
        lambda _: None,
        constant=False,
    )
    files = [folder / f"{sha256_json(value)}.json" for value in asked]
    with locked(folder / ".lock", f"The cache of replies {folder}"):
        missing = {
            path: value for path, value in zip(files, asked, strict=True) if not path.exists()
        }
        if missing:
            _ask_all(Client(endpoint, section), missing)
    replies = {path: _read_reply(path) for path in set(files)}
    return [replies[path] for path in files]


def _ask_all(client: Client, missing: Mapping[Path, dict[str, Any]]) -> None:
    """Send the missing requests and write each reply as soon as it arrives."""
    from tqdm import tqdm

    title = client.section.rpartition(".")[2]
    stopped = Event()

    def ask(path: Path, asked: dict[str, Any]) -> None:
        if stopped.is_set():
            return
        try:
            reply = client.ask({key: value for key, value in asked.items() if key != "url"})
            exchange = {"asked": asked, "reply": asdict(reply)}
            write_json(path, exchange | {"sha256": sha256_json(exchange)})
        except BaseException:
            stopped.set()
            raise

    with (
        closing(client),
        tqdm(total=len(missing), desc=title, unit="request", mininterval=1) as bar,
        ThreadPoolExecutor(client.endpoint.max_concurrency) as pool,
    ):
        waiting = [pool.submit(ask, path, asked) for path, asked in missing.items()]
        try:
            for done in as_completed(waiting):
                done.result()
                bar.update()
        finally:
            # This also happens on an interrupt. Running requests are paid for, so the end of the
            # block waits for them.
            stopped.set()


def _read_reply(path: Path) -> Reply:
    """Read a reply from the cache.

    Raises:
        UserError: The file is not as it was written.
    """
    try:
        exchange = orjson.loads(path.read_bytes())
        if exchange.pop("sha256") == sha256_json(exchange):
            return Reply(**exchange["reply"])
    except (ValueError, TypeError, LookupError, AttributeError):
        pass  # not the JSON that was written
    raise UserError(
        f"{path}: this reply in the cache was damaged or changed since it was received, so it is not "
        "used. Delete the file and run the command again, which then sends the request again."
    )


def _describe(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """Return everything that the answer depends on: the address and the content of the request."""
    tools = {"tools": list(request.tools)} if request.tools else {}
    given = {"max_tokens": request.max_tokens, "temperature": 0, "seed": request.seed, **tools}
    return {
        "url": endpoint.base_url,
        "model": endpoint.model,
        "messages": to_api(request.messages),
        **given,
    }


def to_api(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Convert the messages of a record to the form that the API expects.

    The arguments of calls become text, every call gets an id, and fields of our own are removed.
    """
    made = list[dict[str, Any]]()
    unanswered = list[str]()
    for message in messages:
        kept: dict[str, Any] = {
            key: message[key] for key in ("role", "content", "name") if key in message
        }
        if message.get("tool_calls"):
            calls = [
                {"id": f"call_{len(made)}_{i}", **call}
                for i, call in enumerate(message["tool_calls"])
            ]
            unanswered = [call["id"] for call in calls]
            kept["tool_calls"] = [
                {**call, "function": _with_text(call["function"])} for call in calls
            ]
        elif message["role"] == "tool":
            next_id = unanswered.pop(0) if unanswered else "call"
            kept["tool_call_id"] = message.get("tool_call_id", next_id)
        made.append(kept)
    return made


def _with_text(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": function["name"], "arguments": orjson.dumps(function["arguments"]).decode()}
