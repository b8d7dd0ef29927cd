"""Commands that a finding suggests, to convert a file into one that can be read."""

from pathlib import PurePath
from shlex import quote

UNPACK = {".gz": "gzip -dc", ".bz2": "bzip2 -dc", ".xz": "xz -dc", ".zst": "zstd -dc"}


def convert(name: str, program: str, prefix: str) -> str:
    """Return the shell command that sends a file, unpacked, through a program to a new file.

    Args:
        name: The path of the file.
        program: The command that reads the standard input and writes the standard output.
        prefix: What the name of the new file begins with. It stands beside the old one.
    """
    path = PurePath(name)
    unpack = UNPACK.get(path.suffix.lower())
    new = path.with_name(f"{prefix}-{path.stem if unpack else path.name}")
    return f"{unpack or 'cat'} {quote(name)} | {program} > {quote(str(new))}"
