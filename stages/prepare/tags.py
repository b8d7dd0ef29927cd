"""Rows of tokens with a tag each, as data sets of named entities have them, as a question and its target."""

from typing import Any

from stages.core.data.entities import NO_ENTITIES, Entity, get_spans, is_tag, write_entities
from stages.prepare.messages import shown
from stages.prepare.samples import Problem, parse_json

COLUMNS = ("ner_tags", "tags")
CODE = "bad_tags"


def read_tagged(value: dict[str, Any]) -> tuple[str, str, list[Problem]]:
    """The text of a row, the list of its entities, and what is wrong with its tags."""
    column = next(name for name in COLUMNS if name in value)
    tokens = parse_json(value["tokens"])
    tags = parse_json(value[column])
    problems = _find_problems(tokens, tags, column)
    if problems:
        return "a", NO_ENTITIES, problems  # nothing more is to be found about them
    entities = [
        Entity(" ".join(tokens[span.start : span.end]), span.kind) for span in get_spans(tags)
    ]
    if bad := next(
        (entity for entity in entities if set("[]") & set(entity.name + entity.kind)), None
    ):
        todo = "take the brackets out: the target lists entities between brackets"
        problems = [Problem(CODE, "tokens", f"an entity with a bracket: {shown(bad.name)}", todo)]
    return " ".join(tokens), write_entities(entities), problems


def _find_problems(tokens: Any, tags: Any, column: str) -> list[Problem]:
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        return [
            Problem(
                CODE,
                "tokens",
                f"{shown(tokens)} in place of a list of texts",
                "give the words of the text",
            )
        ]
    if not isinstance(tags, list):
        return [
            Problem(CODE, column, f"{shown(tags)} in place of a list", "give a tag for each token")
        ]
    if len(tags) != len(tokens):
        what = f"{len(tags)} tags for {len(tokens)} tokens"
        return [Problem(CODE, column, what, "give a tag for each token")]
    wrong = next((i for i, tag in enumerate(tags) if not is_tag(tag)), None)
    if wrong is None:
        return []
    todo = "write O, B-TYPE or I-TYPE"
    if isinstance(tags[wrong], int):
        todo += "; what a number stands for only a data set of the hub says (data=hub), a file must have the names"
    return [Problem(CODE, f"{column}[{wrong}]", f"tag {shown(tags[wrong])}", todo)]
