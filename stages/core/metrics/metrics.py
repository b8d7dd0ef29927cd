"""What each row adds to each metric, through local modules of the `evaluate` library."""

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

METRICS = Path(__file__).parent


class Metrics:
    """The chosen metrics, each a folder under `stages/core/metrics` (a team's own is one more folder)."""

    def __init__(
        self,
        names: Sequence[str],
        options: Mapping[str, Mapping[str, Any]],
        primary: str | None = None,
    ) -> None:
        """Load the modules.

        Args:
            names: of the folders.
            options: for some of the metrics their own options.
            primary: the one of them that decides.

        Raises:
            UserError: there is no folder of that name, or of the primary one less is better.
        """
        import evaluate

        known = sorted(
            path.name for path in METRICS.iterdir() if (path / f"{path.name}.py").exists()
        )
        for name in [*names, *options]:
            if name not in known:
                raise UserError(
                    f"evaluate.metrics: there is no metric {name!r}; there are {', '.join(known)}"
                )
        self.names = list(names)
        self._options = options
        self._modules = {name: evaluate.load(str(METRICS / name / f"{name}.py")) for name in names}
        if primary and self._modules[primary].lower_is_better:
            raise UserError(
                f"evaluate.primary_metric: of {primary} less is better; choose one of which more is better"
            )

    def score(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        rows: Sequence[dict[str, Any]] | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, Scores]:
        """Every metric over paired texts.

        Args:
            predictions: the answers.
            references: the targets.
            rows: all else about each row, as `RowMetric.contribute` has it.
            names: of the metrics to score by; null takes all of them.

        Raises:
            UserError: a metric refuses its options.
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
        """The same for answers to records, against their targets. An arm without a model has no likelihoods."""
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
        """One of the metrics, which keeps what it counts for `facts` to itself."""
        return Metrics([name], self._options)

    def prepared(self, name: str, references: Sequence[str]) -> Any:
        """The metric itself, a `RowMetric`, that has seen its options and the targets.

        Raises:
            UserError: it refuses them.
        """
        module = self._modules[name]
        with self._refusals(name):
            module.prepare(list(references), **self._options.get(name, {}))
        return module

    def well_formed(
        self, name: str, answers: Sequence[str], references: Sequence[str]
    ) -> list[bool]:
        """Which answers have the form of a target, right or wrong, so that a program could use them as they are.

        A label is one of the labels of the targets, a list of entities is a list and no more, JSON is valid JSON by the
        schema, SQL can be parsed, of numbers there is exactly one; any other text is not empty. What is word for word a
        target, of whatever row, has the form.

        Args:
            name: of the metric.
            answers: of one arm.
            references: the targets of all rows, from which labels and forms are read; in any order.

        Raises:
            UserError: the metric refuses its options or a target.
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
        """The same metric where only the content counts: what each answer says is read out of the text around it.

        Of `Answer: **Yes**.` that is the label `yes`, of a text with several numbers the last one. The value minus the
        plain one is what an arm loses by its form. A lenient reading can be wrong (an answer that weighs a label and
        then chooses none is read as that label), so it explains a score and decides nothing.

        Args:
            name: of the metric.
            answers: of one arm, one for each row.
            references: the targets of the rows.
            rows: as in `score`.

        Returns:
            The scores; None where the metric has no such reading: it forgives the form already (lists of entities,
            JSON, SQL) or there is no form to forgive (long texts).

        Raises:
            UserError: the metric refuses its options or a target.
        """
        read = self.prepared(name, references).read_leniently(answers)
        return None if read is None else self.only(name).score(read, references, rows)[name]

    def best(self, name: str) -> float | None:
        """What answers equal to their targets score; None where that depends on a model or is not the aim."""
        return self._modules[name].best

    def bounds(self, name: str) -> tuple[float, float] | None:
        """The least and the most that the metric can be; None where one of them is infinite."""
        return self._modules[name].bounds

    def lower_is_better(self, name: str) -> bool:
        """Whether of a metric less is better."""
        return self._modules[name].lower_is_better

    def confusion(
        self, answers: Sequence[Prediction], records: Sequence[Record]
    ) -> dict[str, list[Any]] | None:
        """Labels against answers, if one of the metrics knows labels: see `LabelMetric.confusion`."""
        for name, module in self._modules.items():
            if hasattr(module, "confusion"):
                texts = [answer.text for answer in answers]
                targets = [record.target for record in records]
                return module.confusion(texts, targets, **self._options.get(name, {}))
        return None

    def facts(self) -> dict[str, dict[str, Any]]:
        """What the report says of each metric after it has scored, its options included."""
        return {
            name: {**module.facts(), "options": dict(self._options.get(name, {}))}
            for name, module in self._modules.items()
        }

    @contextmanager
    def _refusals(self, name: str) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError) as error:
            raise UserError(f"evaluate.options.{name}: {error}") from None
