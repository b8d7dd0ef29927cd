"""Ask the server of a registered model: equal answers, throughput, kills and moves of the alias.

    python -m benchmarks.serve --project . --seconds 120 --kills 10 --moves 20

Reads the test rows in `data/prepared` of the project and its SQLite registry, of which it takes a
copy, so the registry stays as it is. Prints a line for each part and writes all of them to
`benchmarks/results/serve.json`. Exits with 1 if an answer differs or a request failed, except while
the server was killed.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import mlflow

from benchmarks.serve_load import Load, Process, ask_all_the_time, ask_once
from stages.core.entrypoint import tool_main
from stages.core.storage.files import read_json, read_jsonl
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.versions import (
    MODEL,
    fetch_model,
    find_version,
    hash_artifact,
    read_asked,
)
from stages.register.champion import ANSWERS

RESULT = Path("benchmarks/results/serve.json")
CLIENTS = 16
PAUSE = 3.0  # seconds of load before a kill


class Bench:
    """A server of a copy of a registry, and the test rows."""

    def __init__(self, project: Path, folder: Path, words: list[str]) -> None:
        """Copy the registry into a folder and start the server."""
        database = folder / "mlflow.db"
        shutil.copy(project / "mlflow.db", database)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
        self.database = database
        self.folder = folder
        self.client = mlflow.MlflowClient()
        self.name = self.client.search_registered_models()[0].name
        self.version = find_version(self.client, f"{self.name}@champion")
        rows = list(read_jsonl(project / "data/prepared/test.jsonl"))
        self.ids = [row["id"] for row in rows]
        self.rows = [row["messages"][:-1] for row in rows]
        self.asked = {"model": f"{self.name}@champion"}
        words = [f"model={self.asked['model']}", "poll_seconds=0.5", *words]
        self.server = Process(words, folder / "serve.log")

    def load(self, clients: int, seconds: float, rows: list | None = None) -> Load:
        """Ask for a time, and return what the clients saw."""
        found = Load()
        asking = ask_all_the_time(
            self.server.url, self.asked, rows or self.rows, clients, seconds, found
        )
        asyncio.run(asking)
        return found

    def compare(self) -> dict[str, Any]:
        """Ask every test row once, and count the answers that equal the evaluated texts."""
        kept = read_json(fetch_model(self.version.uri) / ANSWERS)
        found = self.ask_all()
        equal = sum(kept[self.ids[row]] == text for row, _, text in found.answers)
        return {"rows": len(self.rows), "equal": equal, "failures": len(found.failures)}

    def ask_all(self) -> Load:
        """Ask every test row once, with 16 clients."""
        found = Load()

        async def ask() -> None:
            numbers = list(range(len(self.rows)))
            async with httpx2.AsyncClient(base_url=self.server.url, timeout=120) as client:

                async def take() -> None:
                    while numbers:
                        row = numbers.pop()
                        await ask_once(client, self.asked, row, self.rows[row], found)

                await asyncio.gather(*(take() for _ in range(CLIENTS)))

        asyncio.run(ask())
        return found

    def kill(self, times: int) -> dict[str, Any]:
        """Kill the server under load, and start it again."""
        restarts = []
        failures: dict[str, int] = {}
        for _ in range(times):
            found = Load()
            asking = ask_all_the_time(
                self.server.url, self.asked, self.rows, CLIENTS, PAUSE + 1, found
            )
            thread = threading.Thread(target=asyncio.run, args=(asking,))
            thread.start()
            time.sleep(PAUSE)
            self.server.end(signal.SIGKILL)
            thread.join()
            for failure in found.failures:
                failures[failure] = failures.get(failure, 0) + 1
            restarts.append(round(self.server.start(), 1))
        with closing(sqlite3.connect(self.database)) as database:
            whole = database.execute("pragma integrity_check").fetchone()[0]
        return {"kills": times, "restart_seconds": restarts, "seen": failures, "registry": whole}

    def move(self, times: int) -> dict[str, Any]:
        """Move the alias between two versions under load."""
        other = self.add_version(lambda model: model.get_output_embeddings().weight.mul_(0.5))
        found = Load()
        stopped = threading.Event()

        async def ask() -> None:
            while not stopped.is_set():
                await ask_all_the_time(
                    self.server.url, self.asked, self.rows[:20], CLIENTS, 1, found
                )

        thread = threading.Thread(target=lambda: asyncio.run(ask()))
        thread.start()
        seconds = []
        for number in range(times):
            target = (other, self.version.number)[number % 2]
            started = time.perf_counter()
            self.client.set_registered_model_alias(self.name, "champion", target)
            while httpx2.get(f"{self.server.url}/health").json()["version"] != target:
                time.sleep(0.1)
            seconds.append(round(time.perf_counter() - started, 1))
        stopped.set()
        thread.join()
        texts: dict[tuple[int, str], set[str]] = {}
        for row, model, text in found.answers:
            texts.setdefault((row, model), set()).add(text)
        mixed = sum(len(each) > 1 for each in texts.values())
        asked = {"requests": len(found.seconds), "failures": len(found.failures), "mixed": mixed}
        return {"moves": times, **asked, "seconds_to_take_over": seconds}

    def add_version(self, change: Callable[[Any], Any], dtype: str | None = None) -> str:
        """Register a version that differs from the champion, without answers to the test rows.

        Args:
            change: Changes the model, whose weights are in the saved type.
            dtype: The type that it has now, such as `bfloat16`.

        Returns:
            The number of the version.
        """
        import torch
        from transformers import AutoModelForCausalLM

        asked = read_asked(self.version.uri)
        copy = self.folder / f"other-{dtype}"
        shutil.copytree(fetch_model(self.version.uri), copy)
        model = AutoModelForCausalLM.from_pretrained(copy / MODEL)
        saved = str(model.dtype)
        with torch.no_grad():
            change(model)
        model.save_pretrained(copy / MODEL)
        settings = copy / "MLmodel"
        settings.write_text(settings.read_text().replace(saved, str(model.dtype)))
        (copy / ANSWERS).write_text("{}")
        tags = {f"{PREFIX}artifact_sha256": hash_artifact(copy, asked)}
        made = self.client.create_model_version(self.name, copy.as_uri(), tags=tags)
        return str(made.version)


@tool_main("serve")
def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.serve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--moves", type=int, default=20)
    parser.add_argument("words", nargs="*", help="more keys of the server, such as dtype=float32")
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="tuneproof-serve-") as folder:
        bench = Bench(asked.project.resolve(), Path(folder), asked.words)
        try:
            for part, result in run(bench, asked):
                found[part] = result
                print(f"{part}: {json.dumps(result)}", flush=True)  # noqa: T201
                RESULT.parent.mkdir(parents=True, exist_ok=True)
                RESULT.write_text(json.dumps(found, indent=2))
        finally:
            bench.server.end(signal.SIGTERM)
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
