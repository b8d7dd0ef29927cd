"""A server process, and clients that ask it all the time."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil

READY_SECONDS = 120


class Process:
    """`python -m services.serve` on a free port."""

    def __init__(self, words: list[str], log: Path) -> None:
        """Start it. It writes its log to a file."""
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._words = [*words, f"port={port}"]
        self._log = log
        self.start()

    def start(self) -> float:
        """Start the process and wait until it is ready. Returns the seconds that this took."""
        started = time.perf_counter()
        with self._log.open("ab") as file:
            command = [sys.executable, "-m", "services.serve", *self._words]
            self._process = subprocess.Popen(command, stdout=file, stderr=file)
        while time.perf_counter() < started + READY_SECONDS:
            try:
                if httpx2.get(f"{self.url}/health", timeout=5).status_code == httpx2.codes.OK:
                    return time.perf_counter() - started
            except httpx2.HTTPError:
                time.sleep(0.05)
        raise RuntimeError(self._log.read_text()[-2000:])

    def measure(self) -> tuple[float, float]:
        """Return the peak resident memory in GB, and the seconds of processor time."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        times = psutil.Process(self._process.pid).cpu_times()
        return int(peak.split()[1]) / 1e6, times.user + times.system

    def end(self, number: signal.Signals) -> int:
        """Send a signal, and return the exit status."""
        os.kill(self._process.pid, number)
        return self._process.wait()


@dataclass
class Load:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    """Of each answered request."""
    failures: list[str] = field(default_factory=list)
    answers: list[tuple[int, str, str]] = field(default_factory=list)
    """For each answer the number of the row, the version and the text."""
    elapsed: float = 0.0

    def describe(self) -> dict[str, float]:
        """Return requests, failures, requests a second, and the quantiles of the seconds."""
        ordered = sorted(self.seconds) or [0.0]
        quantiles = {
            f"p{q}": round(ordered[min(len(ordered) - 1, len(ordered) * q // 100)], 3)
            for q in (50, 95)
        }
        rate = round(len(self.seconds) / max(self.elapsed, 1e-9), 3)
        counts = {"requests": len(self.seconds), "failures": len(self.failures)}
        return {**counts, "requests_per_second": rate, **quantiles}


async def ask_all_the_time(
    url: str,
    asked: dict[str, Any],
    rows: list[list[dict]],
    clients: int,
    seconds: float,
    load: Load,
) -> None:
    """Let clients ask one row after the other, and note what they see.

    Args:
        url: The address of the server.
        asked: The body of each request without the messages.
        rows: The messages of each row.
        clients: How many ask at the same time.
        seconds: When they send no more requests.
        load: Where it is noted.
    """
    numbers = iter(range(10**9))
    started = time.perf_counter()

    async def ask(client: httpx2.AsyncClient) -> None:
        while time.perf_counter() < started + seconds:
            row = next(numbers) % len(rows)
            await ask_once(client, asked, row, rows[row], load)

    async with httpx2.AsyncClient(base_url=url, timeout=120) as client:
        await asyncio.gather(*(ask(client) for _ in range(clients)))
    load.elapsed = time.perf_counter() - started


async def ask_once(
    client: httpx2.AsyncClient, asked: dict[str, Any], row: int, messages: list[dict], load: Load
) -> None:
    """Ask once, and note the answer or the failure."""
    started = time.perf_counter()
    try:
        body = {**asked, "messages": messages}
        response = await client.post("/v1/chat/completions", json=body)
    except httpx2.HTTPError as error:
        load.failures.append(type(error).__name__)
        await asyncio.sleep(0.2)
        return
    if response.status_code != httpx2.codes.OK:
        load.failures.append(str(response.status_code))
        return
    load.seconds.append(time.perf_counter() - started)
    found = response.json()
    load.answers.append((row, found["model"], found["choices"][0]["message"]["content"]))
