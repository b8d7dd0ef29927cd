"""Small wheels in a folder, which pip finds there and nowhere else."""

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from stages.core.config.data import WheelMember


def write_wheel(folder: Path, package: str, files: Mapping[str, bytes]) -> Path:
    """Write version 1.0 of a package with the given files, by their paths in the wheel."""
    path = folder / f"{package}-1.0-py3-none-any.whl"
    facts = f"{package}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(
            f"{facts}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
        )
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/RECORD", "")
    return path


def write_parts(folder: Path, contents: list[bytes]) -> list[WheelMember]:
    """Write each part of a file into a wheel of its own, and return the parts in order."""
    return [
        pin(write_wheel(folder, f"part{n}", {f"part{n}/data.0{n}": content}), f"part{n}/data.0{n}")
        for n, content in enumerate(contents)
    ]


def pin(wheel: Path, member: str) -> WheelMember:
    """Pin a member of a wheel by the hash that the wheel has now."""
    return WheelMember(
        package=wheel.name.split("-")[0],
        version="1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=member,
    )
