"""Score answers without a language model on a data option: a floor that every arm should beat.

    python -m stages.prepare data=NAME
    python -m benchmarks.floors data=NAME

Reads `data/prepared` and scores the test rows by the option's own metrics. It scores the arms of
`stages.baseline.model_free` and two more that a skeptic would try:

- `nearest (characters)` gives the target of the nearest training row, by the cosine of TF-IDF
  weights of character 2- to 4-grams.
- `linear classifier` is a logistic regression on TF-IDF weights of words, word pairs and character
  n-grams. It is the cheapest model rather than a floor, and is there if targets repeat.

Writes `benchmarks/results/floors-NAME.json`.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from benchmarks.table import show
from stages.baseline.model_free import Answering, get_answering
from stages.baseline.retrieval import get_retriever
from stages.core.config.schema import parse
from stages.core.data.records import Record, read_records
from stages.core.entrypoint import tool_main
from stages.core.metrics.metrics import Metrics


@tool_main("floors")
def main() -> None:
    """Score every floor, write the results and print them as a table."""
    with initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
        config = parse(compose("config", overrides=sys.argv[1:]))
    train = read_records("train")
    test = read_records("test")
    metrics = Metrics(config.evaluate.metrics, config.evaluate.options)
    rows = [{"meta": record.meta, "messages": record.messages} for record in test]
    table: list[dict[str, str | int | float]] = []
    for name, answering in {
        **get_answering(get_retriever(config.prompt, train), train),
        **get_others(train),
    }.items():
        scores = metrics.score(answering(test), [record.target for record in test], rows)
        table.append({"floor": name, **{metric: found.value for metric, found in scores.items()}})
    facts = {"training rows": len(train), "test rows": len(test)}
    result = Path(f"benchmarks/results/floors-{config.data.name}.json")
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps({**facts, "floors": table}, indent=2) + "\n")
    print(f"{config.data.name}: {len(train)} training rows, {len(test)} test rows")  # noqa: T201
    show(table)


def get_others(train: Sequence[Record]) -> dict[str, Answering]:
    """Return the floors that are not arms."""
    found: dict[str, Answering] = {
        "nearest (characters)": lambda test: nearest_by_characters(train, test)
    }
    if len({record.target for record in train}) * 2 < len(train):
        found["linear classifier"] = lambda test: classify(train, test)
    return found


def nearest_by_characters(train: Sequence[Record], test: Sequence[Record]) -> list[str]:
    """Return the targets of the training rows whose questions have the most similar characters."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    known = vectorizer.fit_transform([record.question for record in train])
    similar = vectorizer.transform([record.question for record in test]) @ known.T
    return [train[int(i)].target for i in np.asarray(similar.argmax(axis=1)).ravel()]


def classify(train: Sequence[Record], test: Sequence[Record]) -> list[str]:
    """Return the targets that a linear classifier finds most likely."""
    words = TfidfVectorizer(token_pattern=r"(?u)\w+", ngram_range=(1, 2))  # noqa: S106  (a regex)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    model = make_pipeline(make_union(words, characters), LogisticRegression(C=20, max_iter=2000))
    model.fit([record.question for record in train], [record.target for record in train])
    return [str(label) for label in model.predict([record.question for record in test])]


if __name__ == "__main__":
    main()
