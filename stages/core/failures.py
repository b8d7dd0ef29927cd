"""What a process says if it fails without a `UserError`.

The cause is either the user's system, such as a full disk, or a defect of Tuneproof.
"""

import errno
import os
import platform
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from hydra.errors import HydraException

from stages.core.environment.repository import git_commit, repository_root
from stages.core.errors import UserError, hide_secrets, printable

LOGS = Path(".tuneproof/logs")  # at the root of the repository, which outlives DVC's copies
SHOW_TRACEBACK = ("TUNEPROOF_TRACEBACK", "HYDRA_FULL_ERROR")  # the second one is Hydra's
LENGTH = 300  # characters of an exception's message that are shown
INTERRUPTED = 130  # the exit status of a process that Ctrl-C ended

MIXED = (
    "No file is half-written, but some outputs may be of this run and others of an earlier one. "
    "The same command writes all of them again."
)
ADVICE = {
    errno.ENOSPC: f"Free some space. {MIXED}",
    errno.EDQUOT: f"Free some of your quota. {MIXED}",
    errno.EFBIG: f"Raise the limit for the size of a file (`ulimit -f`). {MIXED}",
    errno.EIO: f"Check the disk or the network file system. {MIXED}",
    errno.EACCES: "Give your user the right to read and write there (`ls -ld` shows the rights).",
    errno.EPERM: "Give your user the right to read and write there (`ls -ld` shows the rights).",
    errno.EROFS: "Work in a copy of the repository on a file system that can be written.",
    errno.EMFILE: "Raise the limit of open files, for example with `ulimit -n 4096`.",
    errno.ENFILE: "Close other programs, because the system has no more open files to give.",
    errno.ENAMETOOLONG: "Use a shorter name, or work in a folder with a shorter path.",
    errno.ENOTDIR: "A file stands where a folder is needed: move it away.",
    errno.EISDIR: "A folder stands where a file is needed: move it away.",
    errno.ELOOP: "Remove the symbolic links that lead to each other.",
    errno.ENOMEM: "Close other programs, or use a machine with more memory.",
}
"""What to do about an error of the operating system that no code of ours can prevent."""
# Libraries that are not written in Python tell these errors in text alone.
IN_TEXT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE)
NO_MEMORY = "can't allocate memory"  # torch's words


@contextmanager
def failures_reported(name: str) -> Iterator[None]:
    """End the process with one message on standard error, whatever the block raises.

    The exit status is 1, or 130 after Ctrl-C.

    Args:
        name: The stage or tool, which begins the message.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        _end(name, error)


def _end(name: str, error: Exception) -> NoReturn:
    mistake = error if isinstance(error, UserError) else explain_system(error)
    if any(os.environ.get(variable) == "1" for variable in SHOW_TRACEBACK):
        traceback.print_exception(error)
    sys.exit(printable(f"\n{name}: {hide_secrets(str(mistake or report_defect(name, error)))}"))


def explain_system(error: Exception) -> UserError | None:
    """Turn an error of the user's system into a `UserError`; None if it is another error.

    Hydra's errors about overrides count too, because its messages say what to do.
    """
    text = str(error)
    if isinstance(error, HydraException):
        return UserError(text)
    if isinstance(error, MemoryError) or NO_MEMORY in text:
        return UserError(f"there is not enough memory. {ADVICE[errno.ENOMEM]}")
    number = error.errno if isinstance(error, OSError) else None
    if number not in ADVICE:
        number = next((known for known in IN_TEXT if os.strerror(known) in text), None)
    if number is None:
        return None
    path = getattr(error, "filename", None)
    where = f": {path}" if path else "" if text.endswith(os.strerror(number)) else f" ({text})"
    return UserError(hide_secrets(f"{os.strerror(number)}{where}. {ADVICE[number]}"))


def report_defect(name: str, error: Exception) -> str:
    """Write the traceback to a log and return a message that says where it is and what to do."""
    # A stage of a rival has a `/` in its name.
    moment = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = repository_root() / LOGS / f"{name.replace('/', '-')}-{moment}-{os.getpid()}.log"
    trace = hide_secrets("".join(traceback.format_exception(error)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f"{_describe_this_process()}\n\n{trace}", encoding="utf-8", errors="replace"
        )
        where = f"The traceback is in {path}."
    except OSError as refused:
        where = (
            f"The traceback, which could not be written to {path} ({refused.strerror}):\n{trace}"
        )
    text = hide_secrets(" ".join(str(error).split()))[:LENGTH]
    return (
        f"this is a defect of Tuneproof and not a mistake of yours.\n"
        f"{type(error).__name__}: {text}\n{where}\n"
        "Please report it in the issues of the repository that you cloned, and add this file. Read "
        "it before: it may quote your rows and paths.\n"
        f"With {SHOW_TRACEBACK[0]}=1 the traceback is shown on the terminal too."
    )


def _describe_this_process() -> str:
    """Describe the command, the code and the system, without the name of the machine."""
    return hide_secrets(
        f"command: {shlex.join(sys.orig_argv)}\ncommit: {git_commit()}\n"
        f"system: Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )
