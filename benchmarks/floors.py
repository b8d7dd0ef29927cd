"""What answers without a model reach on a data option, by its own metrics: a floor under every arm.

    python -m stages.prepare data=NAME
    python -m benchmarks.floors data=NAME

Reads `data/prepared` and judges, by the metrics of the option, on the test rows:

- `constant`: the most frequent training target;
- `nearest (words)`: the target of the training row most similar by BM25 over its words (Robertson and Zaragoza, 2009);
- `nearest (characters)`: the same by the cosine of TF-IDF weights of runs of 2 to 4 characters;
- `lookup`: the names that training targets list, or else the training targets themselves, that stand in the question;
- `linear`, where there are at most 50 different targets: no floor but the cheapest model, a logistic regression on the
  TF-IDF weights of words, pairs of words and runs of characters.

Writes `benchmarks/results/floors-NAME.json`. None sees a test target, and none has a setting that was tuned.
"""

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import bm25s
import numpy as np
from hydra import compose, initialize_config_dir
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from benchmarks.table import show
from stages.core.config import parse
from stages.core.metrics import Metrics
from stages.core.records import Record, read_records
from stages.core.tagging import Entity, find_kinds, list_entities, write_entities

Answer = Callable[[Sequence[Record], Sequence[Record]], list[str]]
WORD = r"(?u)\w+"
MOST_CLASSES = 50


def main() -> None:
    """Judge every floor and print the table."""
    with initialize_config_dir(str(Path("conf").resolve()), version_base="1.3"):
        config = parse(compose("config", overrides=sys.argv[1:]))
    train = read_records("train")
    test = read_records("test")
    metrics = Metrics(config.evaluate.metrics, config.evaluate.options)
    table: list[dict[str, str | int | float]] = []
    few = len({record.target for record in train}) <= MOST_CLASSES
    for name, answer in (FLOORS | ({"linear": linear} if few else {})).items():
        answers = answer(train, test)
        rows = [{"meta": record.meta, "messages": record.messages} for record in test]
        scores = metrics.score(answers, [record.target for record in test], rows)
        table.append({"floor": name, **{metric: found.value for metric, found in scores.items()}})
    groups = len({record.meta["group"] for record in test if "group" in record.meta})
    facts = {"training rows": len(train), "test rows": len(test), "groups in test": groups or None}
    result = Path(f"benchmarks/results/floors-{config.data.name}.json")
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps({**facts, "floors": table}, indent=2) + "\n")
    counted = f"{len(train)} training rows, {len(test)} test rows, {groups or 'no'} groups in test"
    print(f"{config.data.name}: {counted}")  # noqa: T201
    show(table)


def constant(train: Sequence[Record], test: Sequence[Record]) -> list[str]:
    """Always the most frequent training target."""
    [(target, _)] = Counter(record.target for record in train).most_common(1)
    return [target] * len(test)


def nearest_by_words(train: Sequence[Record], test: Sequence[Record]) -> list[str]:
    """The target of the training row whose question shares the rarest words."""
    index = bm25s.BM25()
    index.index(_words(train), show_progress=False)
    found, _ = index.retrieve(_words(test), k=1, show_progress=False)
    return [train[int(i)].target for i in found[:, 0]]


def nearest_by_characters(train: Sequence[Record], test: Sequence[Record]) -> list[str]:
    """The target of the training row whose question is made of the same runs of characters."""
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    known = vectorizer.fit_transform([record.question for record in train])
    similar = vectorizer.transform([record.question for record in test]) @ known.T
    return [train[int(i)].target for i in np.asarray(similar.argmax(axis=1)).ravel()]


def lookup(train: Sequence[Record], test: Sequence[Record]) -> list[str]:
    """What is known from training targets and stands in the question, word for word."""
    kinds = {kind.lower() for kind in find_kinds(record.target for record in train)}
    listed = [entity for record in train for entity in list_entities(record.target, kinds)]
    [(common, _)] = Counter(record.target for record in train).most_common(1)
    if not listed:
        targets = {record.target.casefold(): record.target for record in train}
        return [next(iter(_find(list(targets), record.question, targets)), common) for record in test]
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for entity in listed:
        seen[entity.name.casefold()][entity.kind] += 1
    known = {name: counts.most_common(1)[0][0] for name, counts in seen.items()}
    nothing = next((r.target for r in train if not list_entities(r.target, kinds)), common)
    return [
        write_entities([Entity(name, known[name.casefold()]) for name in _find(list(known), r.question)], nothing)
        for r in test
    ]


def linear(train: Sequence[Record], test: Sequence[Record]) -> list[str]:
    """A logistic regression with an all but unregularised fit, as few rows and many features want it."""
    words = TfidfVectorizer(token_pattern=WORD, ngram_range=(1, 2))
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    model = make_pipeline(make_union(words, characters), LogisticRegression(C=20, max_iter=2000))
    model.fit([record.question for record in train], [record.target for record in train])
    return list(model.predict([record.question for record in test]))


def _find(names: Sequence[str], question: str, spelled: dict[str, str] | None = None) -> list[str]:
    """The names in the question, in its order, the longest where they overlap; as in `spelled`, or as they stand."""
    longest = sorted(filter(None, names), key=len, reverse=True)
    pattern = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in longest)
    found = re.findall(pattern, question, re.IGNORECASE) if pattern else []
    return [spelled[name.casefold()] if spelled else name for name in found]


def _words(records: Sequence[Record]) -> bm25s.tokenization.Tokenized:
    texts = [record.question for record in records]
    return bm25s.tokenize(texts, stopwords=None, token_pattern=WORD, show_progress=False)


FLOORS: dict[str, Answer] = {
    "constant": constant,
    "nearest (words)": nearest_by_words,
    "nearest (characters)": nearest_by_characters,
    "lookup": lookup,
}


if __name__ == "__main__":
    main()
