"""Checks of the code, the configuration and the packages that made a version."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.core.environment.code import digest_text
from stages.core.environment.repository import run_git
from stages.core.storage.files import sha256_json
from stages.register.origin import CHANGES, list_packages
from tools.verify.outcome import Outcome, compare, drifted, holds, unknown
from tools.verify.recorded import Recorded, join


def check_configuration(recorded: Recorded) -> Outcome:
    """Compute the hash of the recorded configuration, and say what the workspace has changed."""
    found = sha256_json(recorded.settings)
    now = recorded.current.model_dump(by_alias=True)
    changed = sorted(key for key, value in recorded.settings.items() if now.get(key) != value)
    others = f"; params.yaml now has another {join(changed)}" if changed else ""
    sentence = f"SHA-256 {found[:12]}, kept in full{others}"
    return compare(found, recorded.version.tags.get("config_sha256"), sentence)


def check_seeds(recorded: Recorded) -> Outcome:
    """Compare the seed in the tags with the configuration."""
    seeds = ", ".join(str(seed) for seed in recorded.candidate.seeds)
    found = str(recorded.settings["seed"])
    return compare(found, recorded.version.tags.get("seed"), f"training seeds {seeds}")


def check_commit(recorded: Recorded) -> Outcome:
    """Look for the commit in this repository."""
    commit = recorded.commit
    if not recorded.has_commit:
        return unknown(f"this repository does not have {commit[:12]}; try `git fetch --all`")
    head = (run_git("rev-parse", "HEAD") or "").strip()
    where = "checked out" if head == commit else f"in this repository, which is at {head[:12]}"
    return holds(f"{commit[:12]} is {where}")


def check_changes(recorded: Recorded) -> Outcome:
    """Apply the recorded changes of the code to the commit, in an index of its own."""
    patch = recorded.origin / CHANGES
    if not patch.exists():
        if _was_dirty(recorded):
            return unknown(
                "files were changed and not recorded: they are no code, or hold a secret"
            )
        return holds("none: all code was committed")
    with TemporaryDirectory() as folder:
        environment = os.environ | {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        read = run_git("read-tree", recorded.commit, env=environment)
        applied = run_git("apply", "--cached", "--check", str(patch.resolve()), env=environment)
    if read is None:
        return unknown(f"{CHANGES} has them, but the commit is not here")
    if applied is None:
        return drifted(f"{CHANGES} does not apply to the commit")
    return holds(f"{CHANGES} has them and applies: {join(_list_changed(patch))}")


def check_code(recorded: Recorded) -> Outcome:
    """Compute the hashes of the code that scored the answers, at the recorded commit."""
    commit = recorded.commit
    if any(file.startswith("stages/") for file in _list_changed(recorded.origin / CHANGES)):
        return unknown(f"it was not committed; apply {CHANGES} to {commit[:12]} to compare it")
    expected = recorded.get_measured("stages/")
    texts = {path: run_git("show", f"{commit}:{path}") for path in expected}
    missing = [path for path, text in texts.items() if text is None]
    if missing:
        return unknown(f"git has no {join(missing)} at {commit[:12]}")
    differ = [path for path, text in texts.items() if digest_text(text or "") != expected[path]]
    if differ and _was_dirty(recorded) and not (recorded.origin / CHANGES).exists():
        return unknown(f"{join(differ)} had changes that were not recorded")
    if differ:
        return drifted(f"another {join(differ)} at {commit[:12]}")
    return holds(f"{len(expected)} files are those of {commit[:12]}")


def _was_dirty(recorded: Recorded) -> bool:
    """Return whether the version was judged with files that were not committed."""
    return recorded.version.tags.get("git_dirty") == "true"


def _list_changed(patch: Path) -> list[str]:
    """List the files that a patch changes, if there is one."""
    lines = patch.read_text(errors="replace").splitlines() if patch.exists() else []
    return [line.rsplit(" b/", 1)[-1] for line in lines if line.startswith("diff --git ")]


def check_packages(recorded: Recorded) -> Outcome:
    """Compare the installed packages with the recorded ones."""
    return compare_packages(recorded.packages, list_packages())


def compare_packages(before: list[str], now: list[str]) -> Outcome:
    """Compare two lists of packages. Packages that were not recorded change nothing recorded."""
    installed = dict(line.split("==") for line in now)
    expected = dict(line.split("==") for line in before)
    changed = [
        f"{name}=={version} is now {installed[name]}"
        for name, version in expected.items()
        if installed.get(name, version) != version
    ]
    if changed:
        return drifted(f"{join(changed)}; constraints.txt of the commit has the pins")
    absent = [name for name in expected if name not in installed]
    if absent:
        return unknown(f"not installed here: {join(absent)}; the others are as recorded")
    added = [name for name in installed if name not in expected]
    more = f"; installed since: {join(added)}" if added else ""
    return holds(f"{len(expected)} packages in the same versions{more}")
