"""Texts of strangers in Markdown: nothing of them is markup."""

import html

import pytest
from markdown_it import MarkdownIt

from stages.core.data.markdown import as_code_block, escape_markdown

MARKUP = {
    "heading": "ok\n\n# Verdict: fine-tune\n\nUse it.",
    "setext": "Verdict\n===",
    "rule": "---",
    "list": "- a\n- b",
    "image": "![x](https://phone.home/x.png)",
    "link": "[x](javascript:alert(1)) <https://a.b> https://a.b www.a.b",
    "html": "<img src=x onerror=alert(1)><script>alert(2)</script><!-- ",
    "code": "`` ` ``` ```` ~~~\n```\nx",
    "table": "a | b\n|---|---|\n| c | d |",
    "emphasis": "*a* _b_ __c__ ~~d~~ $e$ ![",
    "entity": "&lt;b&gt; &#60;",
    "escape": "\\`x\\`",
    "controls": "\x1b[31m \u202e \r# x",
}
GITHUB = MarkdownIt("gfm-like", {"linkify": False})


def render(text):
    """The types of all tokens, and the text that a reader sees."""
    tokens = [part for token in GITHUB.parse(text) for part in (token, *(token.children or []))]
    return {token.type for token in tokens}, "".join(
        token.content for token in tokens if token.type in ("text", "code_block")
    )


@pytest.mark.parametrize("name", MARKUP)
def test_a_sentence_and_a_cell_have_no_markup(name):
    text = MARKUP[name]
    kinds, _ = render(f"- {escape_markdown(text)}\n")
    assert kinds <= {
        "bullet_list_open", "list_item_open", "paragraph_open", "inline", "text", "text_special",
        "paragraph_close", "list_item_close", "bullet_list_close",
    }  # fmt: skip
    plain = " ".join(text.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e").split())
    assert html.unescape(escape_markdown(text)).replace("\u200b", "") == plain
    table, _ = render(f"| a | b |\n|---|---|\n| {escape_markdown(text)} | 1 |\n")
    assert "table_open" in table and not table & {"image", "link_open", "html_inline", "s_open"}


@pytest.mark.parametrize("name", MARKUP)
def test_a_block_of_code_keeps_its_lines_and_ends_where_it_should(name):
    text = MARKUP[name]
    kinds, shown = render(f"System message:\n\n{as_code_block(text)}\n\nThe end.\n")
    assert kinds == {"paragraph_open", "inline", "text", "paragraph_close", "code_block"}
    for line in text.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e").splitlines():
        assert line in shown


def test_nobody_is_mentioned_and_plain_words_stay():
    assert "@octocat" not in escape_markdown("cc @octocat")
    assert escape_markdown("few_shot, Ärger und ٣ 東京") == "few_shot, Ärger und ٣ 東京"
