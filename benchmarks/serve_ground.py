"""A server of a copy of a registry, which can be asked, killed, and moved to another version."""

import asyncio
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import mlflow

from benchmarks.serve_load import Load, Process, ask_all_the_time, ask_once
from stages.core.storage.files import read_json, read_jsonl
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.version_files import (
    ANSWERS,
    FILES_SHA256,
    MODEL,
    fetch_model,
    hash_artifact,
)
from stages.core.tracking.versions import find_version

CLIENTS = 16
PAUSE = 3.0  # seconds of load before a kill


class Bench:
    """A server of a copy of a registry, and the test rows."""

    def __init__(self, project: Path, folder: Path) -> None:
        """Copy the registry of a project, with `data/prepared`, into an empty folder."""
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
        self.kept = read_json(fetch_model(self.version.uri) / ANSWERS)

    def start(self, reference: str = "@champion", words: Sequence[str] = ()) -> None:
        """Start a server of the alias, or of a version such as `/2`, with more keys."""
        model = self.name + reference
        self.asked = {"model": model}
        words = [f"model={model}", "poll_seconds=0.5", *words]
        self.server = Process(words, self.folder / "serve.log")

    def end(self) -> None:
        """Let the server write its answers to the end, and stop it."""
        self.server.end(signal.SIGTERM)

    def load(self, clients: int, seconds: float) -> Load:
        """Ask for a time, and return what the clients saw."""
        found = Load()
        asking = ask_all_the_time(self.server.url, self.asked, self.rows, clients, seconds, found)
        asyncio.run(asking)
        return found

    def compare(self) -> dict[str, Any]:
        """Ask every test row once, and count the answers that equal the evaluated texts."""
        found = self.ask_all()
        equal = self.count_equal(found)
        return {"rows": len(self.rows), "equal": equal, "failures": len(found.failures)}

    def count_equal(self, found: Load) -> int:
        """Count the answers that equal the evaluated texts of the champion."""
        return sum(self.kept[self.ids[row]] == text for row, _, text in found.answers)

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

    def add_version(self, change: Callable[[Any], Any]) -> str:
        """Register a version that differs from the champion, without answers to the test rows.

        Args:
            change: Changes the model, whose weights are in the saved type.

        Returns:
            The number of the version.
        """
        import torch
        from transformers import AutoModelForCausalLM

        copy = self.folder / "other"
        shutil.copytree(fetch_model(self.version.uri), copy)
        model = AutoModelForCausalLM.from_pretrained(copy / MODEL)
        saved = str(model.dtype)
        with torch.no_grad():
            change(model)
        model.save_pretrained(copy / MODEL)
        settings = copy / "MLmodel"
        settings.write_text(settings.read_text().replace(saved, str(model.dtype)))
        (copy / ANSWERS).write_text("{}")
        tags = {f"{PREFIX}{FILES_SHA256}": hash_artifact(copy)}
        made = self.client.create_model_version(self.name, copy.as_uri(), tags=tags)
        return str(made.version)
