import resource
import sys
import time
from datetime import datetime

import pytest
from transformers.utils import chat_template_utils

from stages.core.data import templates
from stages.core.data.prompts import encode_prompt, split_chat
from stages.core.data.templates import TemplateError, render
from stages.core.errors import UserError
from stages.core.models.loading import get_tokenizer
from tests.conftest import ROOT

ASKED = [{"role": "user", "content": "What is 2 + 2?"}]


@pytest.fixture
def tokenizer(base):
    return get_tokenizer(base)


@pytest.fixture
def show(tokenizer):
    """Render a chat with a template."""

    def rendered(template, messages=ASKED):
        tokenizer.chat_template = template
        return render(tokenizer, messages, (), answer=True)

    return rendered


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{{ 1 // 0 }}", "ZeroDivisionError: integer division or modulo by zero"),
        ("{{ 'abc'.index('x') }}", "ValueError: substring not found"),
        ("{{ messages[0].content.nothing() }}", "has no attribute 'nothing'"),
        ("{{ messages[0] + 1 }}", "TypeError: unsupported operand"),
        ("{{ messages[0].content['x'].y }}", "has no attribute"),
        ("{{ [1][9] + 1 }}", "list object has no element 9"),
        ("{% for i in range(10 ** 6) %}x{% endfor %}", "OverflowError: Range too big"),
        ("{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}", "RecursionError: maximum"),
        ("{{ 'abc' | truncate(1) }}", "AssertionError: expected length"),
        ("{{ raise_exception('no such role') }}", "no such role"),
        ("{% for i in [1] %}" * 25 + "{% endfor %}" * 25, "SyntaxError: too many statically"),
        ("{{ [1, 2] | random }}", "it draws at random"),
        ("{{ lipsum() }}", "it draws at random"),
    ],
)
def test_a_template_that_fails_says_where_and_why(show, body, said):
    with pytest.raises(TemplateError, match=r"chat template refuses the chat") as caught:
        show(f"{{# a comment #}}\n{body}")
    assert said in str(caught.value)
    assert "SyntaxError: too many" in said or "in line 2 of the template" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{{ messages | unheard }}", "No filter named 'unheard'"),
        ("{% for %}", "Expected an expression"),
        ("{% for message in messages %}{{ mess", "unexpected end of template"),
    ],
)
def test_a_template_with_an_error_of_syntax_ends_the_run(show, body, said):
    with pytest.raises(UserError, match=rf"is broken in line 2: {said}.*or correct") as caught:
        show(f"{{# a comment #}}\n{body}")
    assert not isinstance(caught.value, TemplateError)  # which would be a finding of each row


def test_a_template_that_never_ends_is_stopped(show, monkeypatch):
    monkeypatch.setattr(templates, "SECONDS", 0.1)
    started = time.process_time()
    loop = "{% for i in range(99999) %}"
    with pytest.raises(UserError, match=r"takes more than 0\.1 s for one chat.*another model"):
        show(f"{loop}{loop}{{% endfor %}}{{% endfor %}}")
    assert time.process_time() - started < 3
    assert show("{{ messages[0].content }}") == ASKED[0]["content"]  # the limit is lifted


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory")
@pytest.mark.parametrize(
    "body",
    [
        "{{ 'x' * 10 ** 10 }}",
        "{% set n = namespace(t='x' * 99) %}{% for i in range(99) %}{% set n.t = n.t * 9 %}{% endfor %}",
        "{{ 'x' | center(10 ** 10) }}",
        "{% for i in range(99999) %}{{ 'xxxxxxxxxx' * 99999 }}{% endfor %}",
    ],
    ids=["constant", "growing", "filter", "loop"],
)
def test_a_template_that_takes_all_memory_is_stopped(show, monkeypatch, body):
    before = resource.getrlimit(resource.RLIMIT_AS)
    monkeypatch.setattr(templates, "BYTES", 1 << 28)
    with pytest.raises(UserError, match="takes more than 256 MiB of memory for one chat"):
        show(body)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_template_that_writes_too_much_is_refused(show):
    with pytest.raises(UserError, match="writes 5,000,000 characters for one short chat"):
        show("{{ 'x' * 5000000 }}")
    long = [{"role": "user", "content": "y" * 2_000_000}]
    assert len(show("{{ messages[0].content * 2 }}", long)) == 4_000_000


@pytest.mark.parametrize(
    "body",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ strftime_now.__self__.__class__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ messages.append(1) }}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ (messages | attr('__class__')).mro }}",
        "{{ [messages] | map(attribute='__class__') | list }}",
        "{% include '/etc/passwd' %}",
        "{% import '/etc/passwd' as x %}",
        "{% extends '/etc/passwd' %}",
    ],
)
def test_a_template_reaches_neither_files_nor_python(show, body):
    try:
        text = show(body)
    except TemplateError:
        return
    assert text in {"", "[Undefined]"}


def test_the_clock_of_a_template_stands_still(show, monkeypatch):
    template = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y %H:%M') }}{% endif %}"

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2031, 5, 6)

    first = show(template)
    monkeypatch.setattr(chat_template_utils, "datetime", Later)
    assert show(template) == first == "01 Jan 2026 12:00"


def test_the_difference_of_two_renderings_is_shown(tokenizer):
    tokenizer.chat_template = (
        "{{ 'one' if messages | length == 1 else 'two' }}"
        "{% for m in messages %}{{ m.content }} and more text that does not differ at all{% endfor %}"
    )
    with pytest.raises(TemplateError, match=r"open: +…'one.*\n +answered: …'two"):
        split_chat(tokenizer, [*ASKED, {"role": "assistant", "content": "4"}])


def test_no_messages_are_a_refusal(tokenizer):
    with pytest.raises(TemplateError, match="empty conversation"):
        encode_prompt(tokenizer, [])


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
def test_the_template_of_gemma_puts_the_system_message_before_the_first_question(
    tokenizer, show, system
):
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    chat = [
        *system,
        {"role": "user", "content": " Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    first = "Be brief.\n\n Hi" if system else " Hi"
    assert show((ROOT / "conf" / "model" / "gemma.jinja").read_text(), chat) == (
        f"<bos><start_of_turn>user\n{first}<end_of_turn>\n"
        "<start_of_turn>model\nHello<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n"
        "<start_of_turn>model\n"
    )
