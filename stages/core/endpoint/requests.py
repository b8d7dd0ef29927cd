"""Chats with a model behind an OpenAI-compatible endpoint. Every reply is kept: nothing is asked, or paid, twice.

The replies lie in the cache (`TUNEPROOF_CACHE`) under `replies/<endpoint>/<request>.json`, each by the SHA-256 of what
was asked; remove a folder there to ask anew. The key is read from the environment and stands in none of them.
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
from stages.core.storage.cache import cached_folder
from stages.core.storage.files import read_json, sha256_json, write_json


@dataclass(frozen=True, slots=True)
class Request:
    """One chat to answer, at temperature 0."""

    messages: Sequence[Message]
    """As in a record."""
    max_tokens: int
    """Where the answer is cut."""
    seed: int
    tools: Sequence[dict[str, Any]] = field(default_factory=tuple)
    """Definitions of the functions that may be called."""


def chat(endpoint: Endpoint, requests: Sequence[Request], section: str) -> list[Reply]:
    """Answer every chat, in the order given, `endpoint.parallel` at a time, with a progress bar.

    Processes that ask the same model at the same time take turns, so that none pays for what another has asked.

    Args:
        endpoint: where and how to ask.
        requests: equal ones are asked once.
        section: the full name of the endpoint's section in the configuration, for messages.

    Raises:
        UserError: the package or the key is missing, or the endpoint cannot answer; what it has answered is kept.
    """
    from filelock import FileLock

    asked = [_describe(endpoint, request) for request in requests]
    folder = cached_folder(
        f"replies/{sha256_json([endpoint.url, endpoint.model])[:16]}", lambda _: None
    )
    files = [folder / f"{sha256_json(value)}.json" for value in asked]
    with FileLock(folder / ".lock"):
        missing = {
            path: value for path, value in zip(files, asked, strict=True) if not path.exists()
        }
        if missing:
            _ask_all(Client(endpoint, section), missing)
    replies = {path: Reply(**read_json(path)["reply"]) for path in set(files)}
    return [replies[path] for path in files]


def _ask_all(client: Client, missing: Mapping[Path, dict[str, Any]]) -> None:
    """Ask, and write each reply as it comes."""
    from tqdm import tqdm

    title = client.section.rpartition(".")[2]
    stopped = Event()

    def ask(path: Path, asked: dict[str, Any]) -> None:
        if stopped.is_set():
            return
        try:
            reply = client.ask({key: value for key, value in asked.items() if key != "url"})
            write_json(path, {"asked": asked, "reply": asdict(reply)})
        except BaseException:
            stopped.set()
            raise

    with (
        closing(client),
        tqdm(total=len(missing), desc=title, unit="request", mininterval=1) as bar,
        ThreadPoolExecutor(client.endpoint.parallel) as pool,
    ):
        waiting = [pool.submit(ask, path, asked) for path, asked in missing.items()]
        try:
            for done in as_completed(waiting):
                done.result()
                bar.update()
        finally:
            stopped.set()  # on an interrupt too; what is under way is paid for, and the end of the block waits for it


def _describe(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """All that the answer hangs on: the address, and what is sent."""
    tools = {"tools": list(request.tools)} if request.tools else {}
    given = {"max_tokens": request.max_tokens, "temperature": 0, "seed": request.seed, **tools}
    return {
        "url": endpoint.url,
        "model": endpoint.model,
        "messages": to_api(request.messages),
        **given,
    }


def to_api(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages of a record as the API takes them: arguments as text, an id for every call, no fields of ours."""
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
