"""The files of general chats that `train.replay.source` names."""

from pathlib import Path

from stages.core.errors import UserError

SELF = "self"  # the value of train.replay.source for rows that the base model writes


def list_chat_files(source: str) -> dict[str, Path]:
    """List the files of chats of `train.replay.source`, by their names without suffixes.

    Raises:
        UserError: The source is neither `self` nor a file nor a folder with JSONL files.
    """
    path = Path(source)
    if source == SELF:
        return {}
    if path.is_dir():
        paths = sorted(path.glob("*.jsonl"))
        if not paths:
            raise UserError(
                f"train.replay.source={source}: the folder has no file that ends in .jsonl"
            )
        return {path.stem: path for path in paths}
    if not path.is_file():
        raise UserError(
            f"train.replay.source={source}: the file does not exist. Set a JSONL file of chats, a "
            f"folder of such files, or {SELF}."
        )
    return {path.stem: path}
