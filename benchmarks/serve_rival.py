"""Ask the server of a registered model and llama.cpp's, which has the same weights, in turns.

    python -m tools.export model=<name>@champion format=gguf quantization=f32
    python -m benchmarks.serve_rival EXPORTED.gguf --project . --seconds 60

Both servers run at the same time, and one of them is asked at a time: by one client and by sixteen, in
three rounds. llama.cpp's gets the evaluated system prompt, the limit of an answer and temperature 0 with
each request, and keeps its own defaults otherwise, such as its cache of prompts. Prints a line for each
part, with how many answers to the test rows equal the evaluated texts.
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.serve_ground import CLIENTS, Bench
from benchmarks.serve_load import Load, ask_all_the_time
from stages.core.entrypoint import make_parser, tool_main
from stages.core.tracking.versions import read_asked
from tools.export.llama_cpp import llama_cpp

ROUNDS = 3
Server = tuple[str, dict[str, Any], list[list[dict[str, str]]]]
"""The address, the body without messages, and the messages of each row."""


@tool_main("serve_rival")
def main() -> None:
    """Start both servers and ask them in turns."""
    parser = make_parser("benchmarks.serve_rival", __doc__)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=60, help="of each part")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tuneproof-serve-") as folder:
        bench = Bench(given.project.resolve(), Path(folder))
        asked = read_asked(bench.version.uri)
        bench.start()
        try:
            with llama_cpp(given.gguf.resolve(), asked["max_length"], CLIENTS) as rival:
                servers: dict[str, Server] = {
                    "this server": (bench.server.url, bench.asked, bench.rows),
                    "llama.cpp": (rival.address, *_ask_like(bench, asked)),
                }
                for _ in range(ROUNDS):
                    for name, server in servers.items():
                        for clients in (1, CLIENTS):
                            found = _load(server, clients, given.seconds)
                            equal = bench.count_equal(found)
                            result = {"clients": clients, **found.describe(), "equal": equal}
                            print(f"{name}: {json.dumps(result)}", flush=True)  # noqa: T201
        finally:
            bench.end()


def _ask_like(bench: Bench, asked: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Return the body and the messages of rows as the version was asked when it was evaluated."""
    body = {**bench.asked, "temperature": 0, "max_tokens": asked["max_new_tokens"]}
    if asked["system_prompt"] is None:
        return body, bench.rows
    first = {"role": "system", "content": asked["system_prompt"]}
    rows = [
        [first, *(message for message in row if message["role"] != "system")] for row in bench.rows
    ]
    return body, rows


def _load(server: Server, clients: int, seconds: float) -> Load:
    url, body, rows = server
    found = Load()
    asyncio.run(ask_all_the_time(url, body, rows, clients, seconds, found))
    return found


if __name__ == "__main__":
    main()
