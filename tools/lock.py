"""Write `constraints.txt`: versions that resolve together, with the SHA-256 of each of their files.

uv resolves all groups of `pyproject.toml` for every platform at once. A version that is pinned
already stays, unless `--upgrade` is given.

    make lock                        # after an edit of the groups
    python -m tools.lock --upgrade   # take the newest versions
"""

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.core.errors import UserError
from stages.core.storage.files import atomic_write

CONSTRAINTS = Path("constraints.txt")
HEADER = """\
# The only place with pins: versions that resolve together on Linux and macOS, with Python 3.11 to 3.13, and the
# hashes of their files. `make lock` writes this file.
"""


def main() -> None:
    """Resolve the groups, and replace `constraints.txt` if that succeeded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    upgrade = parser.parse_args().upgrade
    project = tomllib.loads(Path("pyproject.toml").read_text())
    try:
        resolved = resolve(list(project["dependency-groups"]), upgrade)
        locked = add_hashes(resolved, project["tool"]["tuneproof"]["hashes"])
    except UserError as error:
        sys.exit(f"tools.lock: {error}")
    atomic_write(CONSTRAINTS, f"{HEADER}{locked}".encode())


def resolve(groups: Sequence[str], upgrade: bool) -> str:
    """Resolve the groups with uv and return the requirements with their hashes.

    Raises:
        UserError: uv is not installed, or it found no versions that fit together.
    """
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-annotate", "--no-header"]
    command += [word for group in groups for word in ("--group", group)]
    pins = [] if upgrade else ["--constraint", str(CONSTRAINTS)]
    try:
        done = subprocess.run([*command, *pins], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError("uv is not installed; run `make lock`, which installs it") from None
    if done.returncode:
        raise UserError(f"uv found no versions that fit together:\n{done.stderr.strip()}")
    return done.stdout


def add_hashes(resolved: str, hashes: Mapping[str, Sequence[str]]) -> str:
    """Add the hashes of builds that the package index does not have.

    Args:
        resolved: The requirements as uv writes them.
        hashes: SHA-256 in hex for each `name==version`.

    Raises:
        UserError: A version with more hashes is not the resolved one.
    """
    for pin, more in hashes.items():
        found = re.search(rf"^{re.escape(pin)}(?: ;[^\n]*)? \\\n", resolved, re.MULTILINE)
        if not found:
            raise UserError(
                f"pyproject.toml has hashes of {pin} under [tool.tuneproof.hashes], but another "
                "version was resolved. Write the hashes of its builds there, or remove the entry"
            )
        lines = "".join(f"    --hash=sha256:{one} \\\n" for one in more)
        resolved = resolved[: found.end()] + lines + resolved[found.end() :]
    return resolved


if __name__ == "__main__":
    main()
