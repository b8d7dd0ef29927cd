"""Convert rows of tokens with BIO tags (named-entity data sets) to a question and its target."""

import re
from typing import Any

from stages.core.data.entities import NO_ENTITIES, Entity, get_spans, is_tag, write_entities
from stages.prepare.messages import shown
from stages.prepare.raw_examples import Problem, parse_json

COLUMNS = ("ner_tags", "tags")
CODE = "bad_tags"
BRACKET = re.compile(r"[\[\]]")


def read_tagged(value: dict[str, Any]) -> tuple[str, str, list[Problem]]:
    """Read the text, the entities and the problems of a tagged row.

    Returns:
        The text, the target that lists its entities, and the problems with its tags.
    """
    column = next(name for name in COLUMNS if name in value)
    tokens = parse_json(value["tokens"])
    tags = parse_json(value[column])
    problems = _find_problems(tokens, tags, column)
    if problems:
        return "a", NO_ENTITIES, problems  # placeholders that cause no further findings
    entities = [
        Entity(" ".join(tokens[span.start : span.end]), span.kind) for span in get_spans(tags)
    ]
    if bad := next((entity for entity in entities if BRACKET.search("".join(entity))), None):
        todo = "remove the brackets, because the target lists entities between brackets"
        problems = [Problem(CODE, "tokens", f"an entity with a bracket: {shown(bad.name)}", todo)]
    return " ".join(tokens), write_entities(entities), problems


def _find_problems(tokens: Any, tags: Any, column: str) -> list[Problem]:
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        return [
            Problem(
                CODE,
                "tokens",
                f"{shown(tokens)} instead of a list of strings",
                "list the words of the text",
            )
        ]
    if not isinstance(tags, list):
        return [Problem(CODE, column, f"{shown(tags)} instead of a list", "give one tag per token")]
    if len(tags) != len(tokens):
        what = f"{len(tags)} tags for {len(tokens)} tokens"
        return [Problem(CODE, column, what, "give one tag per token")]
    wrong = next((i for i, tag in enumerate(tags) if not is_tag(tag)), None)
    if wrong is None:
        return []
    todo = "use O, B-TYPE or I-TYPE"
    if isinstance(tags[wrong], int):
        todo += "; only a data set of the hub (data=hub) names its numbers, so a file needs names"
    return [Problem(CODE, f"{column}[{wrong}]", f"tag {shown(tags[wrong])}", todo)]
