"""Entities, either as a list in a text or as one tag for each word.

A list has the form `[NAME - TYPE, NAME - TYPE]`. A tag is B-TYPE, I-TYPE or O.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

import regex

from stages.core.data.unicode_text import UNSPACED

NO_ENTITIES = "No entities found"
OUTSIDE = "O"
# A word is a run of letters, their marks and digits. Every other sign is a word of its own, and so
# is each character, with its marks, of a script without spaces.
_WORD = regex.compile(
    rf"(?V1)(?={UNSPACED})\X|(?:(?!{UNSPACED})[\w\p{{M}}\u200c\u200d])+|[^\w\s\p{{M}}]"
)
_COMMA = re.compile("([,،、，])")  # Latin, Arabic, Chinese and Japanese commas
_DASH = r"[-‐‑–—−－]"
_SPACED_DASH = re.compile(rf"\s{_DASH}\s")
_TAG = re.compile(r"O|[BI]-\S(?:.*\S)?")

Place = tuple[int, int]
"""Start and end of a piece of text, as in a slice."""


class Entity(NamedTuple):
    """A name in the text and its type."""

    name: str
    kind: str


class Span(NamedTuple):
    """An entity as a slice of the words of a text."""

    start: int
    end: int
    kind: str


def list_entities(text: str, kinds: Collection[str]) -> list[Entity]:
    """List the entities in the last bracketed list of a text, whose closing bracket may be missing.

    A comma that does not follow a known type belongs to the name, and so do brackets inside the
    list. Every kind of dash is accepted. It needs no spaces around it if the type is in capitals or
    its script has no capitals.

    Args:
        text: The text to read, such as an answer of a model.
        kinds: The known types, in lower case.
    """
    return next(
        (found for inside in _find_lists(text) if (found := _read_list(inside, kinds)[0])), []
    )


def is_list(text: str, kinds: Collection[str]) -> bool:
    """Return whether the whole text is one bracketed list of entities, each of a known type."""
    text = text.strip()
    entities, rest = _read_list(text[1:-1], kinds)
    return text[:1] == "[" and text[-1:] == "]" and bool(entities) and not rest


def lists_nothing(text: str) -> bool:
    """Return whether nothing in the brackets of a text looks like an entity."""
    return not any(_SPACED_DASH.search(inside) for inside in _find_lists(text))


def find_kinds(targets: Iterable[str]) -> list[str]:
    """Find the types of entities in target lists.

    A text after a dash is a type if it ends a list or follows at least two different names.
    Otherwise it may be part of a name.

    Returns:
        The types, each in its most frequent spelling, sorted.
    """
    names: dict[str, set[str]] = defaultdict(set)
    counts: Counter[str] = Counter()
    last: set[str] = set()
    for target in targets:
        pieces = [_cut(piece) for piece in _COMMA.split(next(iter(_find_lists(target)), ""))[::2]]
        for name, dash, kind in pieces:
            if dash and kind.strip():
                names[kind.strip().lower()].add(name.strip().lower())
                counts[kind.strip()] += 1
        last |= {kind.strip().lower() for _, dash, kind in pieces[-1:] if dash}
    known = {kind for kind, of in names.items() if kind in last or len(of) > 1}
    spelled = {kind.lower(): kind for kind, _ in reversed(counts.most_common())}
    return sorted(spelled[kind] for kind in known)


def write_entities(entities: Sequence[Entity], nothing: str = NO_ENTITIES) -> str:
    """Write entities as a bracketed list, or return `nothing` if there are none."""
    listed = ", ".join(f"{' '.join(entity.name.split())} - {entity.kind}" for entity in entities)
    return f"[{listed}]" if listed else nothing


def is_tag(value: object) -> bool:
    """Return whether a value is a tag of the form O, B-TYPE or I-TYPE."""
    return isinstance(value, str) and _TAG.fullmatch(value) is not None


def get_spans(tags: Sequence[str]) -> list[Span]:
    """Decode tags into entities.

    An I tag that follows an O, or a tag of another type, also begins an entity.
    """
    spans: list[Span] = []
    for i, tag in enumerate(tags):
        begins = tag[0] == "B"
        kind = tag[2:]
        last = spans[-1] if spans else None
        if tag != OUTSIDE and not begins and last and (last.end, last.kind) == (i, kind):
            spans[-1] = last._replace(end=i + 1)
        elif tag != OUTSIDE:
            spans.append(Span(i, i + 1, kind))
    return spans


def get_words(text: str) -> list[Place]:
    """Find the places of the words in a text."""
    return [match.span() for match in _WORD.finditer(text)]


def align(text: str, words: Sequence[Place], entities: Sequence[Entity]) -> tuple[list[str], int]:
    """Turn entities, in the order of the text, into tags of its words.

    Each name is searched after the previous entity first, and then in every place that no other
    entity occupies. The search ignores case and white space. A match begins and ends at word
    boundaries.

    Returns:
        The tags, and the number of entities that were not found in the text.
    """
    starts, ends = ({place[side]: i for i, place in enumerate(words)} for side in (0, 1))
    tags = [OUTSIDE] * len(words)
    after = 0
    lost = 0
    for name, kind in entities:
        pattern = re.compile(
            r"\s*".join(map(re.escape, _WORD.findall(name))) or r"(?!)", re.IGNORECASE
        )
        found = [
            (match.start() < after, starts[match.start()], ends[match.end()])
            for match in _everywhere(pattern, text)
            if match.start() in starts and match.end() in ends
        ]
        free = [
            where for where in found if all(tag == OUTSIDE for tag in tags[where[1] : where[2] + 1])
        ]
        if not free:
            lost += 1
            continue
        _, first, last = min(free)
        tags[first : last + 1] = [f"B-{kind}", *[f"I-{kind}"] * (last - first)]
        after = words[last][1]
    return tags, lost


def read_tags(text: str, words: Sequence[Place], tags: Sequence[str]) -> list[Entity]:
    """Decode tags of words into entities whose names are copied from the text."""
    return [Entity(text[words[s.start][0] : words[s.end - 1][1]], s.kind) for s in get_spans(tags)]


def find_tokens(words: Sequence[Place], offsets: Sequence[Place]) -> list[int | None]:
    """Find the first token of each word.

    Returns:
        The index of the token for each word. Two words may share a token. The value is None if the
        text was cut before the word.
    """
    found: list[int | None] = []
    token = 0
    for start, end in words:
        # This also skips tokens without text, whose offsets are (0, 0).
        while token < len(offsets) and offsets[token][1] <= start:
            token += 1
        found.append(token if token < len(offsets) and offsets[token][0] < end else None)
    return found


def tags_of_words(tokens: Sequence[int | None], tags: Sequence[str]) -> list[str]:
    """Give each word the tag of its first token.

    Args:
        tokens: The first token of each word, from `find_tokens`.
        tags: The tags of all tokens.
    """
    found: list[str] = []
    for i, token in enumerate(tokens):
        if token is None:
            found.append(OUTSIDE)
        elif i and token == tokens[i - 1]:
            # Two words share a token, so the second continues the entity of the first.
            found.append(found[-1].replace("B-", "I-", 1))
        else:
            found.append(tags[token])
    return found


def _find_lists(text: str) -> list[str]:
    """Return what may be the content of the last brackets of a text, the likeliest first.

    The first candidate starts at the outer bracket, the second at the inner one.
    """
    depth = 0
    start = end = 0  # of the content of the last outer brackets
    for match in re.finditer(r"[\[\]]", text):
        if match[0] == "[":
            if depth == 0:
                start = match.end()
            depth += 1
        elif depth:
            depth -= 1
            end = match.start()
    if not start:
        return []
    inner = text[text.rfind("[") + 1 :].split("]", maxsplit=1)[0]
    return [text[start : None if depth else end], inner]


def _read_list(inside: str, kinds: Collection[str]) -> tuple[list[Entity], str]:
    """Read the entities of a list without its brackets, and the text after the last entity."""
    entities: list[Entity] = []
    rest = ""
    pieces = _COMMA.split(inside)
    for piece, comma in zip_longest(pieces[::2], pieces[1::2], fillvalue=""):
        name, kind = _cut_known(rest + piece, kinds)
        if kind:
            entities.append(Entity(" ".join(name.split()), kind))
        rest = "" if kind else rest + piece + comma
    return entities, rest.strip()


def _cut_known(piece: str, kinds: Collection[str]) -> tuple[str, str]:
    """Split a piece into a name and a type at the first dash that only a known type follows.

    The type is empty if there is no such dash.
    """
    for dash in re.finditer(_DASH, piece):
        name = piece[: dash.start()]
        kind = piece[dash.end() :].strip()
        apart = (
            piece[dash.start() - 1 : dash.start()].isspace()
            or piece[dash.end() : dash.end() + 1].isspace()
        )
        if kind.lower() in kinds and (apart or kind == kind.upper()):
            return name, kind
    return piece, ""


def _cut(piece: str) -> tuple[str, str, str]:
    """Split a piece into a name, the last dash with spaces around it, and the text after it."""
    dashes = list(_SPACED_DASH.finditer(piece))
    if not dashes:
        return "", "", piece
    return piece[: dashes[-1].start()], dashes[-1][0], piece[dashes[-1].end() :]


def _everywhere(pattern: re.Pattern[str], text: str) -> Iterable[re.Match[str]]:
    """Find all matches, including overlapping ones."""
    match = pattern.search(text)
    while match:
        yield match
        match = pattern.search(text, match.start() + 1)
