"""Check the project's rules on imports, dependencies, parameters and entry points."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.core.data import verdict
from tests.conftest import ROOT

STAGES = ("configure", "prepare", "baseline", "train", "evaluate", "register")
PIPELINE = OmegaConf.to_container(OmegaConf.load(ROOT / "dvc.yaml"), resolve=False)["stages"]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@pytest.mark.parametrize("stage", (*STAGES, "core"))
def test_a_stage_imports_only_itself_and_core(stage):
    allowed = ("stages.core", f"stages.{stage}")
    for path in (ROOT / "stages" / stage).rglob("*.py"):
        ours = [name for name in imports(path) if name.startswith(("stages", "tools", "services"))]
        assert all(name.startswith(allowed) for name in ours), path


def test_only_services_import_services():
    for folder in ("stages", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not any(name.startswith("services") for name in imports(path)), path


def list_rooms(folder):
    """Return the names of the packages and modules in a folder."""
    return {
        path.relative_to(folder).parts[0].removesuffix(".py") for path in folder.rglob("*.py")
    } - {"__init__"}


ROOMS = {
    "secret_formats": set(),
    "errors": {"secret_formats"},
    "config": {"errors"},
    "storage": {"config", "errors"},
    "data": {"storage", "config", "errors"},
    "environment": {"data", "storage", "config", "errors"},
    "endpoint": {"data", "storage", "config", "errors"},
    "models": {"environment", "data", "storage", "config", "errors"},
    "statistics": set(),
    "metrics": {"statistics", "endpoint", "data", "config", "errors"},
    "tracking": {"environment", "data", "storage", "config", "errors"},
    "planning": {"models", "storage", "config", "errors"},
    "inference": {"models", "environment", "data", "storage", "config", "errors"},
    "failures": {"environment", "errors"},
    "entrypoint": {"failures", "tracking", "environment", "storage", "config", "errors"},
}
"""The packages and modules of `stages/core` that each one may import, besides itself.

Each may import only what comes before it in this dictionary.
"""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_core_imports_only_rooms_below_it(room):
    assert ROOMS[room] <= set(
        list(ROOMS)[: list(ROOMS).index(room)]
    )  # so there are no import cycles
    core = ROOT / "stages" / "core"
    for path in [core / f"{room}.py", *(core / room).rglob("*.py")]:
        ours = (
            {name.split(".")[2] for name in imports(path) if name.startswith("stages.")}
            if path.exists()
            else set()
        )
        assert ours <= ROOMS[room] | {room}, path


STAGE_ROOMS = {
    "train": {
        "examples": set(),
        "stored_examples": set(),
        "monitoring": set(),
        "determinism": set(),
        "trainers": {"monitoring", "examples", "stored_examples"},
        "methods": {"trainers", "monitoring", "examples", "stored_examples"},
        "libraries": set(),
        "unread_weights": set(),
        "adapter": {"unread_weights"},
        "arguments": {"methods", "trainers"},
        "replay_rows": set(),
        "replay_chats": set(),
        "replay_writer": {"methods", "replay_chats", "replay_rows"},
        "replay_questions": {"methods", "replay_chats", "replay_writer"},
        "replay": {
            "methods",
            "examples",
            "stored_examples",
            "replay_questions",
            "replay_rows",
            "replay_writer",
        },
        "init_adapter": {"methods"},
        "initial_values": {"methods", "examples"},
        "layers_from_rows": {"methods", "initial_values"},
        "build_trainer": {
            "adapter",
            "arguments",
            "init_adapter",
            "initial_values",
            "layers_from_rows",
            "methods",
            "trainers",
            "monitoring",
            "replay",
            "unread_weights",
            "stored_examples",
        },
        "loop": {"methods", "monitoring", "stored_examples"},
        "reload_check": {"methods"},
        "export": {"adapter", "methods", "determinism", "reload_check"},
        "run": {
            "build_trainer",
            "loop",
            "export",
            "libraries",
            "methods",
            "monitoring",
            "examples",
        },
        "distributed": {"adapter", "run"},
        "__main__": {"distributed", "run"},
    },
    "evaluate": {
        "costs": set(),
        "analysis": {"costs"},
        "report": {"analysis"},
        "tuned": {"costs"},
        "__main__": {"analysis", "report", "tuned"},
    },
}
"""The packages and modules that each one may import within the two largest stages."""


@pytest.mark.parametrize(
    ("stage", "room"), [(stage, room) for stage, rooms in STAGE_ROOMS.items() for room in rooms]
)
def test_a_room_of_a_stage_imports_only_rooms_below_it(stage, room):
    rooms = STAGE_ROOMS[stage]
    assert rooms[room] <= set(list(rooms)[: list(rooms).index(room)])
    folder = ROOT / "stages" / stage
    assert list_rooms(folder) == set(rooms)
    for path in [folder / f"{room}.py", *(folder / room).rglob("*.py")]:
        names = set(imports(path)) if path.exists() else set()
        ours = {name.split(".")[2] for name in names if name.startswith(f"stages.{stage}.")}
        assert ours <= rooms[room] | {room}, path


def test_every_room_has_its_rule():
    assert list_rooms(ROOT / "stages" / "core") == set(ROOMS)


UNSEEN = {"secret_formats", "config", "errors", "tracking", "failures", "entrypoint"}
"""Packages and modules on which no output depends, because DVC tracks parameters by value."""
SEEN = {"prepare": {"secret_formats"}}
"""Those of them on which the outputs of a stage depend all the same: `prepare` drops rows by them."""
BY_METRIC = {"train": {"metrics", "endpoint", "statistics"}}
"""Packages on which a stage depends only if it uses a metric. `train.dvc_dependency` then names them."""


@pytest.mark.parametrize("stage", STAGES[1:])
def test_dvc_is_told_every_room_that_a_stage_imports(stage):
    found = set()
    new = {stage}
    while new:
        folder = new.pop()
        where = ROOT / "stages" / (stage if folder == stage else f"core/{folder}")
        for path in [where.with_suffix(".py"), *where.rglob("*.py")]:
            names = set(imports(path)) if path.exists() else set()
            rooms = {name.split(".")[2] for name in names if name.startswith("stages.core.")}
            new |= rooms - found
            found |= rooms
    told = {
        dep.split("/")[2].removesuffix(".py")
        for dep in PIPELINE[stage]["deps"]
        if dep.startswith("stages/core/")
    }
    assert f"stages/{stage}" in PIPELINE[stage]["deps"]
    assert told == found - (UNSEEN - SEEN.get(stage, set())) - BY_METRIC.get(stage, set())


def test_rivals_depend_on_what_train_does():
    code = [
        {dep for dep in deps if dep.startswith("stages/")}
        for deps in (PIPELINE["train"]["deps"], PIPELINE["rivals"]["do"]["deps"])
    ]
    assert code[0] == code[1]


def test_dvc_restores_every_file_of_the_verdict():
    """`register` failed if DVC took `evaluate` from its run cache without the second file."""
    outputs = PIPELINE["evaluate"]["outs"]
    assert {str(verdict.VERDICT), str(verdict.MEASURED)} <= set(outputs)


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_stage_declares_the_parameters_that_it_reads(stage):
    declared = set(PIPELINE[stage]["params"])
    text = "\n".join(path.read_text() for path in (ROOT / "stages" / stage).glob("*.py"))
    read = {
        match.replace("register_", "register")
        for match in re.findall(r"(?<!core\.)config\.(\w+(?:\.\w+)?)", text)
    }
    sections = {"data", "model", "prompt", "train", "evaluate", "register", "seed"}
    for key in read:
        if key.split(".")[0] in sections:
            assert any(
                key == d or key.startswith(d + ".") or d.startswith(key + ".") for d in declared
            ), key


SERVICE_ROOMS = {
    "serve": {
        "settings": set(),
        "metrics": set(),
        "engine": set(),
        "request_log": set(),
        "answer_text": set(),
        "errors": set(),
        "server_log": {"errors"},
        "requests": set(),
        "classifier": set(),
        "batches": {"engine"},
        "continuous": {"batches", "engine", "settings"},
        "vllm": {"engine", "settings"},
        "models": {"answer_text", "engine", "errors", "settings"},
        "loading": {"classifier", "continuous", "models", "settings", "vllm"},
        "following": {"errors", "loading", "metrics"},
        "admission": {"errors", "metrics", "settings"},
        "slots": {"admission", "errors", "loading"},
        "chat": {"engine", "errors", "loading", "metrics", "models", "request_log", "requests"},
        "routes": {
            "chat",
            "classifier",
            "engine",
            "errors",
            "loading",
            "models",
            "requests",
            "settings",
            "slots",
        },
        "app": {
            "admission",
            "errors",
            "following",
            "metrics",
            "request_log",
            "routes",
            "settings",
        },
        "run": {"app", "following", "loading", "metrics", "server_log", "settings"},
        "__main__": {"admission", "run", "settings"},
    },
}
"""The modules that each one of a service may import. Each may import only what is before it."""


@pytest.mark.parametrize(
    ("service", "room"),
    [(service, room) for service, rooms in SERVICE_ROOMS.items() for room in rooms],
)
def test_a_module_of_a_service_imports_only_core_and_modules_below_it(service, room):
    rooms = SERVICE_ROOMS[service]
    assert rooms[room] <= set(list(rooms)[: list(rooms).index(room)])
    folder = ROOT / "services" / service
    assert list_rooms(folder) == set(rooms)
    names = set(imports(folder / f"{room}.py"))
    ours = {name for name in names if name.startswith(("stages", "tools", "services"))}
    allowed = {f"services.{service}.{name}" for name in rooms[room]}
    assert {name for name in ours if not name.startswith("stages.core.")} <= allowed


@pytest.mark.parametrize("stage", STAGES)
def test_an_entry_point_is_short_and_says_how_to_run_it(stage):
    text = (ROOT / "stages" / stage / "__main__.py").read_text()
    assert text.count("\n") <= 100
    assert f"dvc repro {stage}" in (ast.get_docstring(ast.parse(text)) or "")


def test_help_lists_groups_and_values():
    done = subprocess.run(
        [sys.executable, "-m", "stages.train", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (
        "train.replay.fraction: The replay rows' share" in done.stdout
        and "group=option" in done.stdout
        and "full, grpo, kto, lora" in done.stdout
        and "micro_batch_tokens" in done.stdout
    )


def test_an_unknown_option_is_refused_with_the_choices():
    done = subprocess.run(
        [sys.executable, "-m", "stages.train", "train=lorra"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "lorra" in done.stderr and "lora" in done.stderr and "Traceback" not in done.stderr


def test_every_requirement_is_pinned_with_the_hashes_of_its_files():
    locked = (ROOT / "constraints.txt").read_text().replace("\\\n", "").splitlines()
    hashes = {
        canonicalize_name(line.split("==")[0]): re.findall(r"--hash=sha256:[0-9a-f]{64}", line)
        for line in locked
        if not line.startswith("#")
    }
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    wanted = [entry for group in groups.values() for entry in group if isinstance(entry, str)]
    assert {canonicalize_name(Requirement(entry).name) for entry in wanted} <= set(hashes)
    assert all(hashes.values())


def test_every_command_that_installs_a_library_names_a_group():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    folders = ("conf", "docs", "stages")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.[ympd]*")]
    texts = [path.read_text() for path in files if path.suffix in (".yaml", ".md", ".py")]
    named = [
        name for text in texts for name in re.findall(r"constraints\.txt --group ([\w-]+)", text)
    ]
    assert len(named) > len(groups) / 2 and set(named) <= set(groups)
    assert not any("constraints.txt '.[" in text for text in texts)  # the project is no package


def test_no_two_test_files_have_the_same_name():
    """pytest imports them by their names alone."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
