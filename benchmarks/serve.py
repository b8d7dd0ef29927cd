"""Ask the server of a registered model: equal answers, throughput, kills and moves of the alias.

    python -m benchmarks.serve --project . --seconds 120 --kills 10 --moves 20

Reads the test rows in `data/prepared` of the project and its SQLite registry, of which it takes a
copy, so the registry stays as it is. Prints a line for each part and writes all of them to
`benchmarks/results/serve.json`. Exits with 1 if an answer differs or a request failed, except while
the server was killed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.serve_ground import CLIENTS, Bench
from stages.core.entrypoint import make_parser, tool_main

RESULT = Path("benchmarks/results/serve.json")


@tool_main("serve")
def main() -> None:
    """Run the parts that are asked for."""
    parser = make_parser("benchmarks.serve", __doc__)
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("words", nargs="*", help="more keys of the server, such as dtype=float32")
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="tuneproof-serve-") as folder:
        bench = Bench(asked.project.resolve(), Path(folder))
        bench.start(words=asked.words)
        try:
            for part, result in run(bench, asked):
                found[part] = result
                print(f"{part}: {json.dumps(result)}", flush=True)  # noqa: T201
                RESULT.parent.mkdir(parents=True, exist_ok=True)
                RESULT.write_text(json.dumps(found, indent=2))
        finally:
            bench.end()
    loads = [found[part] for part in ("one client", f"{CLIENTS} clients", "moves")]
    differs = found["equality"]["equal"] < found["equality"]["rows"]
    sys.exit(differs or any(load.get("failures") for load in loads))


def run(bench: Bench, asked: argparse.Namespace) -> Any:
    """Yield the name and the numbers of each part."""
    yield "equality", bench.compare()
    one = bench.load(1, min(asked.seconds, 30)).describe()
    yield "one client", one
    before = bench.server.measure()[1]
    many = bench.load(CLIENTS, asked.seconds).describe()
    memory, after = bench.server.measure()
    processor = round((after - before) / max(many["requests"], 1), 3)
    ratio = round(many["requests_per_second"] / one["requests_per_second"], 2)
    more = {"ratio": ratio, "cpu_seconds_per_request": processor, "peak_rss_gb": round(memory, 2)}
    yield f"{CLIENTS} clients", {**many, **more}
    yield "moves", bench.move(asked.moves)
    yield "memory after moves", {"peak_rss_gb": round(bench.server.measure()[0], 2)}
    yield "kills", bench.kill(asked.kills)


if __name__ == "__main__":
    main()
