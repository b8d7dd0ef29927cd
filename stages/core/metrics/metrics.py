"""Score answers with metrics that are local modules of the `evaluate` library."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.config.arms import MODEL_FREE_ARMS
from stages.core.data.predictions import Prediction
from stages.core.data.records import Record
from stages.core.errors import UserError
from stages.core.statistics.scores import Scores

METRICS_FOLDER = Path(__file__).parent


class Metrics:
    """The chosen metrics, each of which is a folder under `stages/core/metrics`.

    To add your own metric, add a folder there.
    """

    def __init__(
        self,
        names: Sequence[str],
        options: Mapping[str, Mapping[str, Any]],
        primary: str | None = None,
    ) -> None:
        """Load the modules of the metrics.

        Args:
            names: The names of the metrics, which are those of their folders.
            options: The options of the metrics that have any, by name.
            primary: The metric that decides, one of `names`.

        Raises:
            UserError: A metric does not exist, or lower is better for the primary metric.
        """
        from stages.core.metrics.library import evaluate

        known = sorted(
            path.name for path in METRICS_FOLDER.iterdir() if (path / f"{path.name}.py").exists()
        )
        for name in [*names, *options]:
            if name not in known:
                raise UserError(
                    f"evaluate.metrics: unknown metric {name!r}; choose from {', '.join(known)}"
                )
        self.names = list(names)
        self._options = options
        self._modules = {
            name: evaluate.load(str(METRICS_FOLDER / name / f"{name}.py")) for name in names
        }
        if primary and self._modules[primary].lower_is_better:
            raise UserError(
                f"evaluate.primary_metric: lower is better for {primary}; "
                "choose a metric for which higher is better"
            )

    def score(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        rows: Sequence[dict[str, Any]] | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, Scores]:
        """Score answers against their targets.

        Args:
            predictions: The answers.
            references: The targets.
            rows: The rest of each row, as in the `record` of `RowMetric.contribute`.
            names: The metrics to use; None uses all of them.

        Raises:
            UserError: A metric rejects its options or a target.
        """
        texts = {"predictions": list(predictions), "references": list(references)}
        found = {}
        for name in names or self._modules:
            module = self._modules[name]
            with self._refusals(name):
                result = module.compute(**texts, records=rows, **self._options.get(name, {}))
            rows_found = np.asarray(result["rows"], float)
            found[name] = Scores(rows_found, module.aggregate, module.row_values, module.bounds)
        return found

    def score_records(
        self, answers: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, Scores]:
        """Score answers to records against the targets of the records.

        For an arm without a model, this skips the metrics that need likelihoods.
        """
        rows = [
            {**asdict(r), "prediction": asdict(a)} for a, r in zip(answers, records, strict=True)
        ]
        without_model = bool(answers) and answers[0].arm in MODEL_FREE_ARMS
        names = [
            name
            for name, module in self._modules.items()
            if not (without_model and module.needs_likelihood)
        ]
        texts = [answer.text for answer in answers]
        return self.score(texts, [record.target for record in records], rows, names)

    def only(self, name: str) -> "Metrics":
        """Load one of the metrics anew.

        What the copy counts for `facts` does not change the counts of this object.
        """
        return Metrics([name], self._options)

    def prepared(self, name: str, references: Sequence[str]) -> Any:
        """Get a metric, which is a `RowMetric`, after `prepare` with its options and the targets.

        Raises:
            UserError: The metric rejects its options or a target.
        """
        module = self._modules[name]
        with self._refusals(name):
            module.prepare(list(references), **self._options.get(name, {}))
        return module

    def well_formed(
        self, name: str, answers: Sequence[str], references: Sequence[str]
    ) -> list[bool]:
        """Check which answers, right or wrong, have the form of a target.

        A program could use such an answer as it is. The answer must be one of the targets' labels,
        a list of entities and nothing else, JSON that is valid by the schema, SQL that parses, or
        text with exactly one number. For all other metrics it must not be empty. An answer that is
        identical to the target of any row always has the form.

        Args:
            name: The name of the metric.
            answers: The answers of one arm.
            references: The targets of all rows in any order. They determine the labels and forms.

        Raises:
            UserError: The metric rejects its options or a target.
        """
        module = self.prepared(name, references)
        targets = set(references)
        return [answer in targets or module.well_formed(answer) for answer in answers]

    def lenient_scores(
        self,
        name: str,
        answers: Sequence[str],
        references: Sequence[str],
        rows: Sequence[dict[str, Any]] | None = None,
    ) -> Scores | None:
        """Score only the content of the answers, which is extracted from the text around it.

        For example, `Answer: **Yes**.` counts as the label `yes`, and a text with several numbers
        counts as the last one. The lenient value minus the plain one is what an arm loses by the
        form of its answers. A lenient reading can be wrong: an answer that discusses one label and
        then chooses none counts as that label. It therefore explains a score but decides nothing.

        Args:
            name: The name of the metric.
            answers: The answers of one arm, one for each row.
            references: The targets of the rows.
            rows: The rest of each row, as in `score`.

        Returns:
            The scores, or None if the metric has no lenient reading. Such a metric either forgives
            the form anyway (lists of entities, JSON, SQL) or has no form to forgive (long texts).

        Raises:
            UserError: The metric rejects its options or a target.
        """
        read = self.prepared(name, references).read_leniently(answers)
        return None if read is None else self.only(name).score(read, references, rows)[name]

    def best(self, name: str) -> float | None:
        """Get the score of answers that equal their targets.

        It is None if that score depends on a model or equal answers are not the aim.
        """
        return self._modules[name].best

    def bounds(self, name: str) -> tuple[float, float] | None:
        """Get the lowest and highest possible value of a metric; None if one is infinite."""
        return self._modules[name].bounds

    def lower_is_better(self, name: str) -> bool:
        """Check whether lower values of a metric are better."""
        return self._modules[name].lower_is_better

    def confusion(
        self, answers: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, list[Any]] | None:
        """Compute `LabelMetric.confusion` if one of the metrics has labels."""
        for name, module in self._modules.items():
            if hasattr(module, "confusion"):
                texts = [answer.text for answer in answers]
                targets = [record.target for record in records]
                return module.confusion(texts, targets, **self._options.get(name, {}))
        return None

    def metadata(self) -> dict[str, dict[str, Any]]:
        """Describe each metric for the report, with its options and what it counted."""
        return {
            name: {**module.metadata(), "options": dict(self._options.get(name, {}))}
            for name, module in self._modules.items()
        }

    @contextmanager
    def _refusals(self, name: str) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError) as error:
            raise UserError(f"evaluate.options.{name}: {error}") from None
