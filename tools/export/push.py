"""Upload an export to a repository on the Hugging Face Hub."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from stages.core.errors import UserError
from stages.core.storage.hub import explain
from tools.export.folder import ABOUT

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NEW = {".gitattributes", "README.md"}  # what the hub puts into a new repository
TOKEN = "HF_TOKEN"  # noqa: S105  (the name of a variable)


def check_token() -> None:
    """Check that there is a token, before an export that takes minutes.

    Raises:
        UserError: The variable is not set.
    """
    if not os.environ.get(TOKEN):
        raise UserError(
            f"push needs a token of the Hugging Face Hub that may write. Set {TOKEN} in the environment"
        )


def push(folder: Path, repository: str, private: bool, message: str) -> str:
    """Upload the files of an export, and return the address of the commit.

    The repository is created if it does not exist. Files of an earlier export that this one does not
    have are deleted.

    Args:
        folder: The export.
        repository: `owner/name`.
        private: Whether nobody else may see the repository. One that is public is then refused.
        message: The message of the commit.

    Raises:
        UserError: The hub cannot be reached or refuses the upload, or the repository has something
            else than an export, which would be deleted.
    """
    from huggingface_hub import HfApi

    check_token()
    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ[TOKEN])
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        if private and not hub.repo_info(repository).private:
            raise UserError(
                f"push={repository}: this repository is public, so nothing was uploaded. Add "
                "private=false if everyone may see the model, or choose another repository"
            )
        _check_files(hub, repository)
        commit = hub.upload_folder(
            repo_id=repository, folder_path=folder, commit_message=message, delete_patterns="*"
        )
    except UserError:
        raise
    except Exception as error:  # of the network, the hub or the library
        raise UserError(f"push={repository}: {explain(error)} The export is in {folder}") from None
    return str(commit.commit_url)


def _check_files(hub: "HfApi", repository: str) -> None:
    """Check that a repository is new or holds an earlier export."""
    there = set(hub.list_repo_files(repository)) - NEW
    if there and ABOUT not in there:
        raise UserError(
            f"push={repository}: this repository has other files than an export, such as "
            f"{min(there)}, which would be deleted. Choose another repository"
        )
