"""The code on which the outputs of a stage depend, as listed in `dvc.yaml` alone."""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[3]


def list_code(stage: str) -> list[Path]:
    """List the Python files among the dependencies of a stage in `dvc.yaml`, sorted."""
    return sorted(path for folder in _list_folders(stage) for path in folder.rglob("*.py"))


def list_other_code(stage: str) -> list[Path]:
    """List the Python files of `stages/core` on which no output of the stage should depend."""
    return sorted(set((ROOT / "stages" / "core").rglob("*.py")) - set(list_code(stage)))


def get_digests(paths: Iterable[Path]) -> dict[str, str]:
    """Compute a SHA-256 of each file that ignores comments, docstrings and line breaks.

    Returns:
        The digest in hex of the syntax tree without docstrings, by path relative to the repository.
    """
    return {
        path.relative_to(ROOT).as_posix(): digest_text(path.read_text(encoding="utf-8"))
        for path in paths
    }


@cache
def _list_folders(stage: str) -> list[Path]:
    pipeline = OmegaConf.to_container(OmegaConf.load(ROOT / "dvc.yaml"), resolve=False)
    named = pipeline["stages"][stage]["deps"]  # type: ignore[index,call-overload]
    return [ROOT / name for name in named if name.startswith("stages/")]


# Every training of a process asks again. All files together take half a second.
@cache
def digest_text(text: str) -> str:
    """Compute the digest of the text of a Python file, see `get_digests`."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return hashlib.sha256(_dump(tree).encode()).hexdigest()


def _dump(part: object) -> str:
    """Write a syntax tree as `ast.dump` does, but the same with every version of Python.

    Later versions add fields, which are empty in code that does not use them.
    """
    if isinstance(part, ast.Constant):
        return repr(part.value)
    if isinstance(part, ast.AST):
        named = [(name, value) for name, value in ast.iter_fields(part) if value not in (None, [])]
        return f"{type(part).__name__}({', '.join(f'{name}={_dump(v)}' for name, v in named)})"
    if isinstance(part, list):
        return f"[{', '.join(map(_dump, part))}]"
    return repr(part)


def _is_text(node: ast.AST) -> bool:
    """Return whether a statement is a docstring of a module, class, function or attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
