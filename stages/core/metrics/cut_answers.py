"""Tell which answers that the token limit ended could still have become their target.

The check errs on one side: it never rules out an answer that some continuation makes equal to the
target under any normalisation of the metrics that use it.
"""

import unicodedata

from stages.core.data.unicode_text import clean, unify

ARTICLES = {"a", "an", "the"}
BEGUN = {"", "t", "th"}  # words that may become an article, which some metrics ignore


def may_become(answer: str, target: str) -> bool:
    """Check whether a text could become equal to the target if it went on.

    Only letters and digits are compared, without case, accents and English articles. The last
    character is left out, because the next one could change it.
    """
    words = _get_words(answer[:-1])
    if words and words[-1] in ARTICLES | BEGUN:
        words = words[:-1]
    return "".join(_drop_articles(_get_words(target))).startswith("".join(_drop_articles(words)))


def _get_words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", unify(clean(text)).casefold())
    return ["".join(filter(str.isalnum, word)) for word in plain.split()]


def _drop_articles(words: list[str]) -> list[str]:
    return [word for word in words if word not in ARTICLES]
