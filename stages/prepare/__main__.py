"""Turn the rows of the source into checked, de-duplicated, split records, and show what training will see.

Reads the source that `data.source` names; writes `data/prepared`, with a list of all findings, `metrics/prepare.json`
and `reports/preview.html`; or, where the data has mistakes, `reports/findings.jsonl` and nothing else. Needs no torch.

    dvc repro prepare                                                        # under DVC, with params.yaml
    python -m stages.prepare data=chat-jsonl data.source.path=my-chats.jsonl # alone, composed from conf/
"""

import logging
import time
from pathlib import Path

import hydra

from stages.core.config.schema import Config
from stages.core.data.records import PREPARED
from stages.core.entrypoint import stage_main
from stages.core.models.base_models import get_base_tokenizer
from stages.core.models.loading import get_tokenizer
from stages.core.planning.model_dimensions import get_shape
from stages.core.storage.files import whole_folder, write_json
from stages.core.storage.summaries import write_summary
from stages.core.tracking.tracker import Tracker
from stages.prepare.findings import Findings
from stages.prepare.preview import PREVIEW
from stages.prepare.reading import Reader
from stages.prepare.split import check_splits
from stages.prepare.splits import SplitFiles

log = logging.getLogger(__name__)
REJECTED = Path("reports/findings.jsonl")


@hydra.main(version_base="1.3", config_path="../../conf", config_name="config")
@stage_main("prepare")
def main(config: Config, tracker: Tracker) -> None:
    """Read, check, split, look at what the model reads, write."""
    from stages.prepare.evidence import check_evidence, plan
    from stages.prepare.figures import describe, table
    from stages.prepare.inspection import inspect

    base = get_base_tokenizer(config.model)  # a network that fails should fail here
    tokenizer = get_tokenizer(base)
    with whole_folder(PREPARED) as folder:
        findings = Findings(config.checks, folder / "findings.jsonl")
        files = SplitFiles(folder)
        reader = Reader(config, findings)
        started = time.perf_counter()
        files.write(reader.read())
        seconds = {"rows": time.perf_counter() - started}
        seen = inspect(config, tokenizer, files, findings)
        findings.add(check_evidence(config, files))
        findings.close()
        if findings.failed:
            REJECTED.parent.mkdir(parents=True, exist_ok=True)
            (folder / "findings.jsonl").replace(REJECTED)
            tracker.log_artifact(REJECTED)
            raise findings.error(REJECTED)
        check_splits(files.counts)
        shape = get_shape(config.model, base)
        write_json(
            folder / "training_tokens.json", {"tokens": seen.tokens.count_budget(config, shape)}
        )
    REJECTED.unlink(missing_ok=True)
    tokens = seen.tokens
    figures = describe(tokens.counts, config.model.max_length, tokens.over_limit, tokens.truncated)
    figures["estimate"] = tokens.estimate(config, shape)
    seen.preview.write(PREVIEW, figures)
    log.info("%d rows (%s), %s\n%s", reader.rows, reader.format, files.counts, findings.table())
    log.info("\n%s\n\n%s\n%s", table(figures), seen.preview.text(), figures["estimate"]["sentence"])
    log.info("%s", plan(config, files.counts["test"]))
    facts = {
        "format": reader.format,
        "source": reader.source.facts,
        "rows": reader.rows,
        **files.counts,
    }
    numbers = {**facts, "findings": findings.counts, **figures, "seconds": seconds | seen.seconds}
    write_summary("prepare", numbers)
    tracker.log_summary(numbers)
    tracker.log_artifact(PREPARED / "findings.jsonl")
    tracker.log_artifact(PREVIEW)


if __name__ == "__main__":
    main()
