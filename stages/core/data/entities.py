"""Entities as a text lists them, `[NAME - TYPE, NAME - TYPE]`, and as a tag of each word (B-TYPE, I-TYPE or O)."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

NO_ENTITIES = "No entities found"
OUTSIDE = "O"
# A word is a run of letters and digits; any other sign, and each character of Chinese or Japanese, is one of its own.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])\w)+|[^\w\s]")
_COMMA = re.compile("([,،、，])")  # of Latin, Arabic, Chinese and Japanese
_DASH = r"[-‐‑–—−－]"
_SPACED_DASH = re.compile(rf"\s{_DASH}\s")
_TAG = re.compile(r"O|[BI]-\S(?:.*\S)?")

Place = tuple[int, int]
"""Start and end, as in a slice."""


class Entity(NamedTuple):
    """A name in the text, and what it is."""

    name: str
    kind: str


class Span(NamedTuple):
    """An entity by the places of its words, as in a slice."""

    start: int
    end: int
    kind: str


def list_entities(text: str, kinds: Collection[str]) -> list[Entity]:
    """The entities in the last bracketed list of `text`, which may lack its end; of `kinds`, which are in lower case.

    A comma after anything but a known type belongs to the name, and so do brackets inside the list. The dash may be
    any, and without spaces where the type is in capitals or its script has none.
    """
    return next(
        (found for inside in _find_lists(text) if (found := _read_list(inside, kinds)[0])), []
    )


def is_list(text: str, kinds: Collection[str]) -> bool:
    """Whether the whole text is one bracketed list of entities, every one of a known type."""
    text = text.strip()
    entities, rest = _read_list(text[1:-1], kinds)
    return text[:1] == "[" and text[-1:] == "]" and bool(entities) and not rest


def lists_nothing(text: str) -> bool:
    """Whether a text has nothing in brackets that looks like an entity."""
    return not any(_SPACED_DASH.search(inside) for inside in _find_lists(text))


def find_kinds(targets: Iterable[str]) -> list[str]:
    """The types of entities in lists: what ends one, or stands after two names at least, so that it is no part of one.

    Each as it is spelled most often, sorted.
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
    """The text that lists them; `nothing` where there are none."""
    listed = ", ".join(f"{' '.join(entity.name.split())} - {entity.kind}" for entity in entities)
    return f"[{listed}]" if listed else nothing


def is_tag(value: object) -> bool:
    """Whether a value is a tag."""
    return isinstance(value, str) and _TAG.fullmatch(value) is not None


def get_spans(tags: Sequence[str]) -> list[Span]:
    """The entities that tags mean. An I of another type than the word before, or after an O, begins one too."""
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
    """Where the words of a text are."""
    return [match.span() for match in _WORD.finditer(text)]


def align(text: str, words: Sequence[Place], entities: Sequence[Entity]) -> tuple[list[str], int]:
    """Tags of the words, from entities in the order of the text.

    A name is looked for after the entity before it, then anywhere where no other one is, without regard to case and to
    white space; it begins and ends with a word.

    Returns:
        The tags, and how many of the entities are not in the text.
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
    """The entities that tags of the words mean, named as they stand in the text."""
    return [Entity(text[words[s.start][0] : words[s.end - 1][1]], s.kind) for s in get_spans(tags)]


def find_tokens(words: Sequence[Place], offsets: Sequence[Place]) -> list[int | None]:
    """For each word its first token, which it may share with the word before; None where the text was cut before it."""
    found: list[int | None] = []
    token = 0
    for start, end in words:
        while (
            token < len(offsets) and offsets[token][1] <= start
        ):  # also those that stand for no text: (0, 0)
            token += 1
        found.append(token if token < len(offsets) and offsets[token][0] < end else None)
    return found


def tags_of_words(tokens: Sequence[int | None], tags: Sequence[str]) -> list[str]:
    """The tag of each word from the tags of all tokens: that of its first token, by `find_tokens`."""
    found: list[str] = []
    for i, token in enumerate(tokens):
        if token is None:
            found.append(OUTSIDE)
        elif (
            i and token == tokens[i - 1]
        ):  # one token for two words: the second goes on with the first
            found.append(found[-1].replace("B-", "I-", 1))
        else:
            found.append(tags[token])
    return found


def _find_lists(text: str) -> list[str]:
    """What may be inside the last brackets of a text, the likeliest first: from its outer bracket, from its inner."""
    opened: list[int] = []
    outer = None
    for match in re.finditer(r"[\[\]]", text):
        if match[0] == "[":
            opened.append(match.start())
        elif opened and (start := opened.pop()) is not None and not opened:
            outer = text[start + 1 : match.start()]
    if opened:
        outer = text[opened[0] + 1 :]
    inner = text[text.rfind("[") + 1 :].split("]", maxsplit=1)[0]
    return [] if outer is None else [outer, inner]


def _read_list(inside: str, kinds: Collection[str]) -> tuple[list[Entity], str]:
    """The entities of a list without its brackets, and what stands after the last one."""
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
    """The name and its type at the first dash after which a known type and nothing else stands; else no type."""
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
    """A name, the last dash with spaces around it, and what stands after it."""
    dashes = list(_SPACED_DASH.finditer(piece))
    if not dashes:
        return "", "", piece
    return piece[: dashes[-1].start()], dashes[-1][0], piece[dashes[-1].end() :]


def _everywhere(pattern: re.Pattern[str], text: str) -> Iterable[re.Match[str]]:
    """All matches, also those that overlap."""
    match = pattern.search(text)
    while match:
        yield match
        match = pattern.search(text, match.start() + 1)
