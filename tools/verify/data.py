"""Checks of the files that made a version: the raw data, and all outputs up to the verdict."""

from collections import Counter
from pathlib import Path

from stages.core.config.data import FileSource, WheelSource
from stages.core.storage.files import read_json, sha256_file
from stages.core.storage.wheels import get_member
from tools.verify.outcome import Outcome, compare, drifted, holds, unknown
from tools.verify.recorded import Recorded, join


def check_raw_data(recorded: Recorded) -> Outcome:
    """Compute the hash of the raw data again, if they are at hand."""
    source = recorded.candidate.config.data.source
    before = read_json(recorded.origin / "prepare.json")["source"]
    if isinstance(source, WheelSource) and "member_sha256" in before:
        found = sha256_file(get_member(source))
        sentence = f"{source.member} has the SHA-256 {found[:12]}"
        return compare(found, before["member_sha256"], sentence)
    if isinstance(source, FileSource):
        return _check_raw_files(recorded)
    if before.get("commit"):
        return unknown(f"it was commit {before['commit'][:12]} of {before['id']} on the hub")
    return unknown("the source has no hash with which it could be read again")


def _check_raw_files(recorded: Recorded) -> Outcome:
    """Compare the files of `data.source.path` with the MD5 in DVC's lock file."""
    from dvc.repo import Repo
    from dvc_data.hashfile.build import build

    path = Path(recorded.settings["data"]["dvc_dependency"])
    dependencies = recorded.stages.get("prepare", {}).get("deps", [])
    expected = {dep["path"]: dep.get("md5") for dep in dependencies}.get(str(path))
    if expected is None:
        return unknown(f"DVC's lock file has no hash of {path}")
    if not path.exists():
        return unknown(f"{path} is not here; try `dvc pull`")
    cache = Repo().cache.local
    _, _, built = build(cache, str(path.resolve()), cache.fs, "md5", dry_run=True)
    return compare(built.hash_info.value, expected, f"{path} has the MD5 {expected[:12]}")


def check_outputs(recorded: Recorded, folder: str) -> Outcome:
    """Look for the files of a folder that decided the verdict, in the workspace and DVC's cache."""
    expected = recorded.get_measured(folder)
    found = {path: recorded.places.find(path, sha256) for path, sha256 in expected.items()}
    missing = [path for path, place in found.items() if place is None]
    changed = [path for path in missing if Path(path).exists()]
    if changed:
        return drifted(
            f"another {join(changed)} is here, and DVC's cache does not have the recorded one"
        )
    if missing:
        return unknown(f"not here: {join(missing)}; try `dvc pull`")
    here = Counter(str(place) == path for path, place in found.items())
    names = {True: "in the workspace", False: "in DVC's cache"}
    where = " and ".join(f"{here[own]} {name}" for own, name in names.items() if here[own])
    return holds(f"{len(expected)} files, {where}")
