"""Turn source rows into checked, deduplicated and split records, and preview what training sees.

The stage reads the source that `data.source` names. It writes `data/prepared` with a list of all
findings, `metrics/prepare.json` and `reports/preview.html`. If the data has errors, it writes only
`reports/findings.jsonl`. It does not need torch.

    # Under DVC, with params.yaml:
    dvc repro prepare
    # Without DVC, composed from conf/:
    python -m stages.prepare data=chat-jsonl data.source.path=my-chats.jsonl
"""

import logging
import time
from pathlib import Path

import hydra

from stages.core.config.schema import Config
from stages.core.data.leaks import write_leaks
from stages.core.data.records import PREPARED
from stages.core.entrypoint import stage_main
from stages.core.models.base_models import get_base_tokenizer, read_end_ids
from stages.core.models.loading import get_tokenizer
from stages.core.planning.model_dimensions import get_model_dimensions
from stages.core.storage.files import atomic_directory, write_json
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
    """Read, check and split the rows, inspect what the model reads, and write the results."""
    from stages.prepare.evidence import check_evidence, plan
    from stages.prepare.inspection import inspect
    from stages.prepare.similarity.comparison import compare_rows
    from stages.prepare.statistics import describe_tokens, table

    base = get_base_tokenizer(config.model)  # first, so that a failing network fails early
    tokenizer = get_tokenizer(base)
    with atomic_directory(PREPARED) as folder:
        findings = Findings(config.checks, folder / "findings.jsonl")
        files = SplitFiles(folder)
        reader = Reader(config, findings)
        started = time.perf_counter()
        files.write(reader.read())
        seconds = {"rows": time.perf_counter() - started}
        comparison = compare_rows(config, files, reader.drawn)
        seen = inspect(config, tokenizer, files, comparison, findings, read_end_ids(base))
        findings.add(check_evidence(config, files, comparison.clusters.hint))
        findings.close()
        if findings.failed:
            REJECTED.parent.mkdir(parents=True, exist_ok=True)
            (folder / "findings.jsonl").replace(REJECTED)
            tracker.log_artifact(REJECTED)
            raise findings.error(REJECTED)
        check_splits(files.counts, comparison.clusters.hint)
        dimensions = get_model_dimensions(config.model, base)
        budget = {"tokens": seen.tokens.count_budget(config, dimensions)}
        write_json(folder / "training_tokens.json", budget)
        write_leaks(folder, *seen.leaks)
    REJECTED.unlink(missing_ok=True)
    tokens = seen.tokens
    statistics = describe_tokens(
        tokens.counts, config.model.max_length, tokens.over_limit, tokens.truncated
    )
    statistics["estimate"] = tokens.estimate(config, dimensions)
    seen.preview.write(PREVIEW, statistics)
    log.info("%d rows (%s), %s\n%s", reader.rows, reader.format, files.counts, findings.table())
    log.info(
        "\n%s\n\n%s\n%s", table(statistics), seen.preview.text(), statistics["estimate"]["sentence"]
    )
    log.info("%s", plan(config, files.counts["test"]))
    numbers = {
        "format": reader.format,
        "source": reader.source.metadata,
        "rows": reader.rows,
        **files.counts,
        "findings": findings.counts,
        **statistics,
        "near_duplicates": comparison.clusters.numbers,
        "seconds": seconds | {"near_duplicates": comparison.seconds, "tokens": seen.seconds},
    }
    write_summary("prepare", numbers)
    tracker.log_summary(numbers)
    tracker.log_artifact(PREPARED / "findings.jsonl")
    tracker.log_artifact(PREVIEW)


if __name__ == "__main__":
    main()
