"""Ask the server of a bfloat16 model, and bound what sharing batches costs it.

    python -m benchmarks.serve_bfloat16

In bfloat16 the answers depend on what shares a batch with them, in the evaluation as in the server. The
benchmark casts the champion to bfloat16, lets it answer the test rows as the evaluation does, and asks
its server with sixteen clients. It prints how many answers are equal, and the paired difference of the
primary metric, served minus evaluated, with its interval. Run it in the project: it reads `params.yaml`
and `data/prepared`, and takes a copy of the SQLite registry.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.serve_ground import Bench
from stages.core.config.schema import Config, read_params
from stages.core.data.groups import get_groups
from stages.core.data.predictions import Prediction
from stages.core.data.records import read_records
from stages.core.entrypoint import tool_main
from stages.core.metrics.metrics import Metrics
from stages.core.statistics.bounds import difference
from stages.core.tracking.version_files import fetch_checked
from stages.core.tracking.versions import find_version
from stages.register.champion import get_answers


@tool_main("serve_bfloat16")
def main() -> None:
    """Make the bfloat16 version, ask it both ways and compare."""
    config = read_params()
    with tempfile.TemporaryDirectory(prefix="tuneproof-serve-") as folder:
        bench = Bench(Path.cwd(), Path(folder))
        number = bench.add_version(lambda model: model.to(torch.bfloat16))
        print(json.dumps(compare(config, bench, number)))  # noqa: T201


def compare(config: Config, bench: Bench, number: str) -> dict[str, Any]:
    """Compare the served answers of a version with the evaluated ones."""
    records = read_records("test")
    version = find_version(bench.client, f"{bench.name}/{number}")
    evaluated, _ = get_answers(config, version, fetch_checked(version), records)
    bench.start(f"/{number}")
    try:
        found = bench.ask_all()
    finally:
        bench.end()
    texts = {bench.ids[row]: text for row, _, text in found.answers}
    served = [Prediction(record.id, "served", texts[record.id], 0, 0) for record in records]
    metric = config.evaluate.primary_metric
    metrics = Metrics([metric], {metric: config.evaluate.options.get(metric, {})})
    theirs, ours = (metrics.score_records(each, records)[metric] for each in (evaluated, served))
    gap = difference(ours, theirs, config.evaluate.confidence, get_groups(records))
    return {
        "rows": len(records),
        "equal": sum(one.text == other.text for one, other in zip(served, evaluated, strict=True)),
        "evaluated": round(theirs.value, 4),
        "served": round(ours.value, 4),
        "difference": [round(value, 4) for value in (gap.value, gap.ci_low, gap.ci_high)],
        "lower_bound": round(gap.bound_low, 4),
    }


if __name__ == "__main__":
    main()
