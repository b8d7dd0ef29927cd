"""What was recorded of a registered version, and where its files can be found today."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from stages.core.config.schema import Config
from stages.core.data.verdict import VERDICT
from stages.core.environment.repository import run_git
from stages.core.errors import UserError
from stages.core.models.candidates import Candidate, get_recommended
from stages.core.storage.files import read_json, sha256_file
from stages.core.tracking.versions import Version, read_asked
from stages.register.origin import CONFIG, LOCK, ORIGIN, PACKAGES

SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Recorded:
    """A registered version with its files and the origin that was recorded with it."""

    version: Version
    folder: Path
    """The folder with the artifacts of the version."""
    current: Config
    """The configuration of the workspace."""

    @property
    def origin(self) -> Path:
        """The folder with the files of the origin."""
        return self.folder / ORIGIN

    @property
    def commit(self) -> str:
        """The commit at which the version was judged."""
        return self.version.tags["git_commit"]

    @property
    def has_commit(self) -> bool:
        """Whether this repository has the commit."""
        return run_git("cat-file", "-e", f"{self.commit}^{{commit}}") is not None

    @cached_property
    def asked(self) -> dict[str, Any]:
        """How the version was asked, see `stages.core.tracking.versions.read_asked`."""
        return read_asked(self.version.uri)

    @cached_property
    def verdict(self) -> dict[str, Any]:
        """The content of `reports/verdict.json`."""
        return dict(read_json(self.origin / VERDICT.name))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The resolved configuration."""
        return dict(read_json(self.origin / CONFIG))

    @cached_property
    def candidate(self) -> Candidate:
        """The registered model among the tuned models of its configuration.

        Raises:
            UserError: This version of Tuneproof does not accept the configuration.
        """
        # No output depends on these two sections, so they are not recorded.
        others = self.current.model_dump(by_alias=True, include={"tracking", "candidate"})
        try:
            config = Config.model_validate(self.settings | others)
        except ValueError as error:
            first = str(error).splitlines()[0]
            raise UserError(
                f"this version of Tuneproof does not accept the recorded configuration ({first}). "
                f"Check out {self.commit} to verify this"
            ) from None
        return get_recommended(config, self.verdict["recommended_arm"])

    @cached_property
    def packages(self) -> list[str]:
        """The packages that were installed, as `name==version`, sorted."""
        return (self.origin / PACKAGES).read_text().split()

    @cached_property
    def stages(self) -> dict[str, Any]:
        """The stages in DVC's lock file; empty if it was not recorded."""
        path = self.origin / LOCK
        lock: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.exists() else {}
        return dict(lock.get("stages", {}))

    @cached_property
    def places(self) -> "Places":
        """Where files are that DVC's lock file names."""
        return Places(self.stages)

    def get_measured(self, folder: str) -> dict[str, str]:
        """Return the hashes of the files of a folder that decided the verdict, by their paths."""
        measured = self.verdict["lineage"]["measured_sha256"]
        return {path: sha256 for path, sha256 in measured.items() if path.startswith(folder)}


class Places:
    """Finds files by their SHA-256, in the workspace or in DVC's cache."""

    def __init__(self, stages: Mapping[str, Any]) -> None:
        """Read which files DVC's lock file names.

        Args:
            stages: The stages in the lock file.
        """
        self._outputs = {
            out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])
        }

    def find(self, path: str, sha256: str) -> Path | None:
        """Return a file with this content: that of the workspace or that of the cache, or None."""
        for file in (Path(path), self._find_in_cache(path)):
            if file and file.is_file() and sha256_file(file) == sha256:
                return file
        return None

    def _find_in_cache(self, path: str) -> Path | None:
        """Return the place in DVC's cache of what the lock file says of a path."""
        if path in self._outputs:
            return self._get_place(self._outputs[path])
        for folder, md5 in self._outputs.items():
            listing = self._get_place(md5)
            if path.startswith(f"{folder}/") and md5.endswith(".dir") and listing.exists():
                inner = path.removeprefix(f"{folder}/")
                files = {entry["relpath"]: entry["md5"] for entry in read_json(listing)}
                return self._get_place(files[inner]) if inner in files else None
        return None

    @cached_property
    def _cache(self) -> Path:
        from dvc.exceptions import NotDvcRepoError
        from dvc.repo import Repo

        try:
            return Path(Repo().cache.local.path)
        except NotDvcRepoError:
            raise UserError("run this at the root of the repository, where DVC works") from None

    def _get_place(self, md5: str) -> Path:
        return self._cache / md5[:2] / md5[2:]


def join(names: Sequence[str]) -> str:
    """Write the first names of a list, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
