"""The files of a registered version: where they are, and whether they are those that were registered."""

from pathlib import Path
from tempfile import TemporaryDirectory

from stages.core.errors import UserError
from stages.core.storage.files import sha256_file, sha256_json
from stages.core.tracking.versions import Version

MODEL = "model"
"""The folder of a registered model with its weights and its configuration."""
TOKENIZER = "components/tokenizer"
"""The folder of a registered model with its tokenizer and its chat template."""
ADAPTER = "adapter"
"""The folder of a registered model with the adapter that is merged into its weights, if there was one."""
ANSWERS = "test_answers.json"
"""The file of a registered model with its answers to the test rows, by the ids of the rows."""
FILES_SHA256 = "files_sha256"
"""The tag, without the prefix of Tuneproof, with the result of `hash_artifact`."""
_DOWNLOADED: dict[str, TemporaryDirectory[str]] = {}


def fetch_model(uri: str) -> Path:
    """Return the folder with the files of a registered or logged model.

    Those of a server are downloaded into a folder that exists until `release_model`, or until this
    process ends. Those of a local store are not copied, so nothing in the folder may be changed.
    """
    import mlflow
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
    from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository

    if isinstance(ModelsArtifactRepository(uri).repo, LocalArtifactRepository):
        return Path(mlflow.artifacts.download_artifacts(uri))
    folder = TemporaryDirectory(prefix="tuneproof-model-")
    mlflow.artifacts.download_artifacts(uri, dst_path=folder.name)
    _DOWNLOADED[folder.name] = folder
    return Path(folder.name)


def fetch_checked(version: Version) -> Path:
    """Return the folder with the files of a version, which are those that were registered.

    Raises:
        UserError: They differ, or the version does not have their hash.
    """
    folder = fetch_model(version.uri)
    check_artifact(version, folder)
    return folder


def release_model(folder: Path) -> None:
    """Remove the files of a model that `fetch_model` has downloaded."""
    downloaded = _DOWNLOADED.pop(str(folder), None)
    if downloaded:
        downloaded.cleanup()


def hash_artifact(folder: Path) -> str:
    """Compute the SHA-256 of everything in a registered model that decides its answers.

    These are the files of its weights, of its tokenizer and of its adapter, its answers to the test
    rows, and what MLflow's description says of how to load it and how to ask it.

    Args:
        folder: The folder with the files of the version.
    """
    from mlflow.models import Model

    parts = (MODEL, TOKENIZER, ADAPTER)
    files = [path for part in parts for path in (folder / part).rglob("*")]
    digests = {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in [*files, folder / ANSWERS]
        if path.is_file()
    }
    described = Model.load(str(folder))
    return sha256_json([digests, described.flavors, described.metadata])


def check_artifact(version: Version, folder: Path) -> None:
    """Check that the files of a version are those that were registered.

    Raises:
        UserError: They differ, or the version does not have their hash.
    """
    again = "register the model again with `dvc repro --force --single-item register`"
    expected = version.tags.get(FILES_SHA256)
    if expected is None:
        raise UserError(
            f"{version.uri} has no hash of its files, because an earlier version of Tuneproof "
            f"registered it. Please {again}"
        )
    found = hash_artifact(folder)
    if found != expected:
        raise UserError(
            f"{version.uri}: the SHA-256 of its files is {found[:12]}, but its tag says "
            f"{expected[:12]}. The files were changed after the registration, so it is not what "
            f"was measured. Restore them, or {again}"
        )
