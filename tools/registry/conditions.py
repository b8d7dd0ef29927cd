"""Repeat those conditions of the gate that can be repeated for a registered version."""

from pathlib import Path

from stages.core.config.schema import Config
from stages.core.data.looks import find_last_place, get_look_folder
from stages.core.data.records import PREPARED, read_records
from stages.core.environment.lineage import data_sha256
from stages.core.environment.repository import repository_root
from stages.core.statistics.bounds import correct_for_looks
from stages.core.tracking.runs import PREFIX
from stages.core.tracking.version_files import fetch_checked
from stages.core.tracking.versions import Version
from stages.register.champion import compare, get_answers
from stages.register.condition import GATE, Condition, list_failed


def check_again(config: Config, version: Version, holder: Version | None) -> list[Condition]:
    """Check a version as the gate would do it today.

    Args:
        config: The configuration of the workspace.
        version: The version that would get the alias.
        holder: The version that has it.

    Returns:
        The conditions: what was recorded at the registration, the hashes of the files, and the
        comparison with the holder, unless `register.gate.require_beating_champion` is false.
    """
    files = "files"
    found = [_check_recorded(version)]
    try:
        folder = fetch_checked(version)
    except Exception as error:  # of the check, a server, a network or a missing file
        said = str(error).split("\n")[0]
        why = f"its files cannot be shown to be those measured: {said}"
        return [*found, Condition(files, False, why)]
    found.append(Condition(files, True, "its files are those that were registered"))
    if config.register_.gate.require_beating_champion:
        found.append(_check_champion(config, version, folder, holder))
    return found


def _check_recorded(version: Version) -> Condition:
    name = "recorded"
    start = GATE.removeprefix(PREFIX)
    known = [key for key in version.tags if key.startswith(start)]
    if not known:
        why = "the version has no record of its conditions, because it did not pass this gate"
        return Condition(name, False, f"{why}. Register the model again with `dvc repro`")
    failed = list_failed(version.tags)
    if failed:
        why = "these conditions failed when the version was registered"
        return Condition(name, False, f"{why}: {', '.join(failed)}")
    return Condition(name, True, f"all {len(known)} conditions passed when it was registered")


def _check_champion(
    config: Config, version: Version, folder: Path, holder: Version | None
) -> Condition:
    """Compare the answers of both versions to the test rows of the workspace."""
    name = "champion"
    if holder is None:
        return Condition(name, True, "no version has the alias")
    why = _explain_no_rows(config, version)
    if why:
        sentence = f"it cannot be compared with version {holder.number}, because {why}"
        return Condition(name, False, sentence)
    try:
        answers, _ = get_answers(config, version, folder, read_records("test"))
    except Exception as error:  # of a registry, a network, a missing file or another library
        said = str(error).strip().split("\n")[0][:200]
        what = f"it cannot answer the test rows ({type(error).__name__}: {said})"
        return Condition(name, False, f"{what}. Make sure that {version.uri} can be loaded")
    return compare(config, answers, holder, _get_confidence(config))


def _explain_no_rows(config: Config, version: Version) -> str | None:
    path = PREPARED / "test.jsonl"
    if not path.exists():
        return f"{path} is not here. Run `dvc repro prepare`, or `dvc pull` if a remote has it"
    data = version.tags.get("data")
    if data != config.data.name:
        return f"{path} has rows of {config.data.name}, and the version is for {data}"
    return None


def _get_confidence(config: Config) -> float:
    """Return the confidence of the bound, corrected for all looks at these test rows so far."""
    folder = get_look_folder(repository_root(), data_sha256()["test"])
    return correct_for_looks(config.evaluate.confidence, find_last_place(folder))
