"""Compute the share of rows whose SQL query returns what the query of the reference returns."""

import re
from collections.abc import Sequence
from typing import Any

from stages.core.metrics.row_metric import RowMetric
from stages.core.metrics.sql_execution.sandbox import SANDBOX


class SqlExecution(RowMetric):
    """Scores 1 if prediction and reference return the same rows from generated SQLite databases.

    Otherwise it scores 0. The databases follow the test suites of Zhong et al. (2020). The metric
    reads the tables from the messages before the answer, in the form `CREATE TABLE …`,
    `Table: t. Columns: a (number), b (text)` or `Table t, columns = [*,a,b]`. It fills them with
    random values. These include the literals of both queries, each in the column that precedes it
    in the query. The queries must agree on up to five databases, if possible ones on which the
    reference finds something and leaves only the order of the rows open.

    Rows are compared as multisets, and in order as far as an `ORDER BY` of the reference determines
    it. Column names do not count, and numbers are rounded to 6 decimals. If the reference
    does not run or no table is found, the texts must be equal apart from case and white space.
    Equal queries always match.

    Queries run in a child process with limits on time and memory. They may read, without recursion,
    at most 10,000 rows in 100 million steps of SQLite, and call functions that are known to take
    little and to give the same result again. `printf`, `format` and `random` are not among them.
    """

    advice = "fix the empty targets, or choose exact_match"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The question and the reference of each row that was scored.
        self.seen: set[tuple[str, str]] = set()
        self.compared_as_text: set[tuple[str, str]] = set()

    def prepare(self, references: Sequence[str], **options: Any) -> None:
        super().prepare(references, **options)
        self.bare = all(map(SANDBOX.parses, references))

    def contribute(
        self, prediction: str, reference: str, record: dict[str, Any]
    ) -> Sequence[float]:
        found = bare(prediction)
        wanted = bare(reference)
        question = "\n".join(
            str(message.get("content") or "") for message in record.get("messages", [])[:-1]
        )
        self.seen.add((question, reference))
        if found == wanted or not found:
            return float(found == wanted), 1.0
        same = SANDBOX.compare(question, wanted, found)
        if same is None:
            self.compared_as_text.add((question, reference))
            same = found.casefold().split() == wanted.casefold().split()
        return float(same), 1.0

    def well_formed(self, prediction: str) -> bool:
        """Check whether SQLite can parse the whole answer.

        If it cannot parse every target, this checks only the query that the metric reads from the
        answer.
        """
        return SANDBOX.parses(prediction if self.bare else bare(prediction))

    def metadata(self) -> dict[str, Any]:
        """Describe the metric and count the rows in which an answer was compared as text.

        That happens if the reference does not run or no table is found.
        """
        return {
            **super().metadata(),
            "rows": len(self.seen),
            "rows_compared_as_text": len(self.compared_as_text),
        }


def bare(text: str) -> str:
    """Strip a code fence, a leading label (`SQL: `) and a final semicolon from a query."""
    text = re.sub(r"(?s)^.*?```(?i:\w*sql\w*)?(.*?)(?:```.*|$)", r"\1", text)
    return re.sub(r"(?i)^\w+:\s*(?=select\b|with\b)", "", text.strip()).rstrip("; \n\t")
