"""The clone in which `benchmarks.kills` runs, its state before each stage, and what is compared."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from stages.core.data.looks import LEDGER
from stages.core.storage.files import sha256_file
from tools.repeat import get_digests

STAGES = ("prepare", "baseline", "train", "evaluate", "register")
TARGETS = ("dvc and stage", "dvc", "stage")
CHOICES = (
    "experiment=smoke",
    "register.gate.verdict=null",
    "register.gate.min_primary_metric=0",
    "register.gate.require_beating_champion=false",
    "register.gate.purpose=one-task",
    "register.gate.max_cut_fraction=1",
    "register.gate.accept_unknown_licenses=[data]",
)
MEASURED = ("seconds", "peak", "bytes", "per_second", "ratio", "cost", "estimate")
"""Parts of the names of numbers that differ between two undisturbed runs."""
# A registration that was killed after it succeeded says that the model is registered already.
SAID = "outcome"
LOOK = """
import json, sys
from mlflow import MlflowClient

client = MlflowClient(sys.argv[1])
experiments = [experiment.experiment_id for experiment in client.search_experiments()]
champions = [
    client.get_model_version_by_alias(model.name, "champion").tags["tuneproof.model_sha256"]
    for model in client.search_registered_models()
    if "champion" in model.aliases
]
running = client.search_runs(experiments, "attributes.status = 'RUNNING'")
found = {
    "running MLflow runs": [run.info.run_name for run in running],
    "champions": champions,
    "versions": len(client.search_model_versions()),
}
print(json.dumps(found))
"""
TRIES = 5  # of one kill, if the stage ends before its moment
LIMIT = 900  # seconds for a run after a kill


@dataclass
class Kill:
    """One kill and what came of it."""

    stage: str
    """The stage before which the clone starts."""
    moment: float
    """Seconds after the start of `dvc repro`."""
    target: str
    hit: str = ""
    """The stage that was running when the signal was sent."""
    seconds: float = 0.0
    """Seconds that `make repro` took afterwards."""
    said: str = ""
    """What `make repro` repaired or how it failed."""
    differs: str = ""
    """What is not as in the reference; empty if everything is."""


class Ground:
    """The folder with the clone, its states before each stage, and the reference."""

    def __init__(self, folder: Path) -> None:
        """Name the folders."""
        self.folder = folder
        # Every state runs at the same place, because MLflow stores absolute paths.
        self.clone = folder / "tuneproof"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TUNEPROOF_CACHE": str(self.clone / ".tuneproof/cache"),
            "DVC_SITE_CACHE_DIR": str(folder / "dvc"),
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
            self.environment |= {f"{name}_NAME": "Kills", f"{name}_EMAIL": "kills@example.org"}
        self.environment.pop("PYTHONPATH", None)

    def run_reference(self) -> dict[str, float]:
        """Run every stage undisturbed, keep the state before each, and return their seconds."""
        source = Path(__file__).resolve().parents[1]
        subprocess.run(["git", "clone", "--quiet", str(source), str(self.clone)], check=True)
        shutil.rmtree(self.clone / "data/test_looks", ignore_errors=True)
        choices = [word for choice in CHOICES for word in ("-S", choice)]
        self._run("dvc", "exp", "run", *choices, "configure")
        self._run("git", "add", "-A")
        self._run("git", "commit", "--quiet", "-m", "The state before the kills")
        seconds = {}
        for stage in STAGES:
            self._copy(self.clone, self._state(stage))
            started = time.perf_counter()
            self._run("dvc", "repro", stage)
            seconds[stage] = time.perf_counter() - started
        self._copy(self.clone, self._state("end"))
        self._run("make", "-o", "install", "repro")  # its verdict completes the MLflow run
        self.reference = self.look()
        print("reference:", {stage: round(value, 1) for stage, value in seconds.items()})  # noqa: T201
        return seconds

    def kill_and_repeat(self, kill: Kill, generator: random.Random) -> None:
        """Kill a run, repeat it, and note what happened."""
        for _ in range(TRIES):  # a try in which the stage has ended counts for nothing
            self._restore(kill.stage)
            kill.hit = self._kill(kill)
            if kill.hit:
                break
            kill.moment *= generator.uniform(0.3, 0.8)
        started = time.perf_counter()
        done = self._run("make", "-o", "install", "repro", check=False)
        kill.seconds = time.perf_counter() - started
        (self.folder / "last.log").write_text(done.stdout)
        said = [line for line in done.stdout.splitlines() if line.startswith("recover: ")]
        kill.said = " ".join(said)
        if done.returncode:
            kill.said = f"failed: {' '.join(done.stdout.split())[-400:]}"
        kill.differs = self._compare()

    def _kill(self, kill: Kill) -> str:
        """Start `dvc repro`, kill it at the moment, and return the stage that was running.

        Returns:
            The stage, `dvc` if none was running, or nothing if the run ended before.
        """
        with (self.folder / "killed.log").open("w") as log:
            process = subprocess.Popen(
                ["dvc", "repro"],
                cwd=self.clone,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            until = time.monotonic() + kill.moment
            stage = None
            while process.poll() is None:
                stage = find_stage(process.pid)
                # On a busy day the reference was slow, and the stage has ended before its moment.
                if stage and stage[1] in STAGES[STAGES.index(kill.stage) + 1 :]:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    return ""
                late = time.monotonic() >= until
                # Between two stages there is none to kill.
                if late and (stage or kill.target != "stage"):
                    break
                time.sleep(0.02)
            else:
                return ""
            if kill.target == "dvc and stage":
                os.killpg(process.pid, signal.SIGKILL)
            elif kill.target == "dvc":
                process.kill()
            elif stage:
                stage[0].kill()
            process.wait()
        return stage[1] if stage else "dvc"

    def look(self) -> dict[str, Any]:
        """Look at everything that has to be as in the reference."""
        numbers = {
            path.name: _drop_measured(json.loads(path.read_bytes()))
            for path in sorted((self.clone / "metrics").glob("*.json"))
        }
        status = self._run("dvc", "status", check=False).stdout.strip()
        return {
            **{f"file {name}": digest for name, digest in get_digests(self.clone).items()},
            **{f"numbers {name}": value for name, value in numbers.items()},
            "dvc status": status.splitlines()[-1] if status else "",
            "git status": sorted(
                line
                for line in self._run("git", "status", "--short").stdout.splitlines()
                if "data/test_looks" not in line
            ),
            "looks": {
                str(path.relative_to(self.clone)): sha256_file(path)
                for path in (self.clone / "data/test_looks").rglob("*.json")
            },
            "leftovers": sorted(
                str(path.relative_to(self.clone))
                for kind in ("partial", "aside", "tmp")
                for path in self.clone.rglob(f".*.{kind}")
            ),
            **self._look_at_mlflow(),
        }

    def _look_at_mlflow(self) -> dict[str, Any]:
        """Look in a process of its own, because MLflow keeps the connection to a deleted file."""
        found = self._run(
            "python", "-c", LOOK, f"sqlite:///{self.clone / 'mlflow.db'}", check=False
        )
        try:
            return json.loads(found.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            return {"MLflow": found.stdout[-300:]}

    def _compare(self) -> str:
        """Say what is not as in the reference."""
        found = self.look()
        names = sorted(self.reference.keys() | found.keys())
        different = [name for name in names if self.reference.get(name) != found.get(name)]
        return "; ".join(
            name
            if name.startswith("file")
            else f"{name} {_explain(self.reference.get(name), found.get(name))}"
            for name in different
        )

    def _restore(self, stage: str) -> None:
        """Make the clone as it was before a stage, with the later ones in DVC's run cache."""
        self._copy(self._state(stage), self.clone)
        following = STAGES[STAGES.index(stage) + 1 :]
        if following and following[0] != "register":
            known = set(self._list_cache(following[0]))
            for path in set(self._list_cache("register")) - known:
                (self.clone / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self._state("register") / path, self.clone / path)
            # DVC's run cache does not know of the looks at the test rows, which git keeps.
            shutil.copytree(self._state("register") / LEDGER, self.clone / LEDGER)

    def _list_cache(self, stage: str) -> list[Path]:
        folder = self._state(stage)
        files = (folder / ".dvc/cache").rglob("*")
        return [path.relative_to(folder) for path in files if path.is_file()]

    def _state(self, stage: str) -> Path:
        return self.folder / "before" / stage

    def _copy(self, source: Path, target: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, symlinks=True)

    def _run(self, *command: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            command,
            cwd=self.clone,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        if check and done.returncode:
            sys.exit(f"`{' '.join(command)}` failed:\n{done.stdout}")
        return done


def find_stage(pid: int) -> tuple[psutil.Process, str] | None:
    """Return the process of the stage that a DVC process runs, and the name of the stage."""
    try:
        for process in psutil.Process(pid).children(recursive=True):
            words = process.cmdline()
            for word in words[1:3]:
                if word.startswith("stages."):
                    return process, word.removeprefix("stages.")
    except psutil.NoSuchProcess:
        pass
    return None


def _explain(wanted: Any, found: Any) -> str:
    """Say what differs, in a mapping its first difference alone."""
    if not isinstance(wanted, dict) or not isinstance(found, dict):
        return f"{found!r} instead of {wanted!r}"
    name = next(key for key in wanted | found if wanted.get(key) != found.get(key))
    return f"{name}: {_explain(wanted.get(name), found.get(name))}"


def _drop_measured(values: Any) -> Any:
    """Drop the numbers that differ between two undisturbed runs."""
    if not isinstance(values, dict):
        return values
    return {
        key: _drop_measured(value)
        for key, value in values.items()
        if key != SAID and not any(part in key for part in MEASURED)
    }
