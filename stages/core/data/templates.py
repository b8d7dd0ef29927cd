"""Render chats with the model's chat template, which is a program from outside.

Transformers runs it in the sandbox of Jinja, which gives it neither files nor the internals of
Python. Here it also gets limits on time, memory and the length of the text, a clock that stands
still, and no random numbers, so that the same chat always gives the same text.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from stages.core.data.control_tokens import get_control_tokens
from stages.core.data.marks import restore
from stages.core.data.records import Message
from stages.core.data.template_arguments import explain_syntax
from stages.core.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tools = Sequence[dict[str, Any]]
# Templates that write the day's date would otherwise give other prompts, and so other answers, on
# each day.
CLOCK = datetime(2026, 1, 1, 12)
SECONDS = 10.0  # of processor time for one chat; even a thousand turns take less than one
BYTES = 1 << 30  # of further memory for one chat
# A text of this many characters, and more than so many times as long as its chat, is refused.
CHARACTERS = 1_000_000
TIMES = 20


class TemplateError(UserError):
    """The model's chat template refuses a chat or renders it in a form that training cannot use."""


class _TimeUpError(Exception):
    """The template has used up its time."""


def render(
    tokenizer: "PreTrainedTokenizerBase", messages: list[Message], tools: Tools, *, answer: bool
) -> str:
    """Render a chat in which control tokens of the texts are marked, as `encode_texts` needs it.

    Args:
        tokenizer: The tokenizer with the chat template.
        messages: The messages of the chat.
        tools: The tools that may be called.
        answer: Whether the text ends where the assistant begins to answer.

    Raises:
        TemplateError: The template refuses the chat.
        UserError: The template has an error of syntax or exceeds a limit. It would be so for other
            chats too, so this ends the run.
    """
    control = get_control_tokens(tokenizer)
    chat = control.mark_chat(messages)
    functions = control.mark(list(tools)) or None
    with _guarded():
        _fix_clock(tokenizer, tools)  # compiles the template, which computes its constants
        text = tokenizer.apply_chat_template(
            chat, tools=functions, add_generation_prompt=answer, tokenize=False
        )
    if len(text) > CHARACTERS and len(text) > TIMES * len(str((messages, tools))):
        raise UserError(_explain(f"writes {len(text):,} characters for one short chat"))
    return restore(text)


def check_template(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Compile the template, so that a cut file is found before any row is read.

    Raises:
        UserError: The template has an error of syntax, or exceeds a limit.
    """
    with _guarded():
        _fix_clock(tokenizer, ())


@contextmanager
def _guarded() -> Iterator[None]:
    """Limit what runs in the block, and explain what the template raises."""
    from jinja2 import TemplateError as JinjaError
    from jinja2 import TemplateSyntaxError

    try:
        with _limits():
            yield
    except _TimeUpError:
        raise UserError(_explain(f"takes more than {SECONDS:g} s for one chat")) from None
    except MemoryError:
        what = f"takes more than {BYTES >> 20} MiB of memory for one chat"
        raise UserError(_explain(what)) from None
    except TemplateSyntaxError as error:
        raise UserError(explain_syntax(error)) from None
    except Exception as error:  # a program from outside may raise anything
        known = isinstance(error, JinjaError)
        said = str(error) if known else f"{type(error).__name__}: {error}"
        raise TemplateError(
            f"the model's chat template refuses the chat{_where(error)}: {said}"
        ) from None


def _explain(what: str) -> str:
    return f"the model's chat template {what}. Choose another model, or correct its template."


def _where(error: Exception) -> str:
    """Tell the line of the template in which an error was raised, if it is known."""
    line = None  # of the template
    trace = error.__traceback__
    while trace and not isinstance(error, SyntaxError):
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" in line {line} of the template" if line else ""


def _fix_clock(tokenizer: "PreTrainedTokenizerBase", tools: Tools) -> None:
    """Take from the template what gives another text for the same chat.

    Transformers offers no argument for this, but keeps the compiled template and its environment.
    """
    from transformers.utils.chat_template_utils import _compile_jinja_template

    template = tokenizer.get_chat_template(tools=list(tools) or None)
    environment = _compile_jinja_template(template).environment
    environment.globals["strftime_now"] = CLOCK.strftime
    environment.globals["lipsum"] = _refuse_chance
    environment.filters["random"] = _refuse_chance


def _refuse_chance(*_: Any, **__: Any) -> NoReturn:
    from jinja2 import TemplateError as JinjaError

    raise JinjaError("it draws at random, so each rendering would differ; choose another model")


def _raise_time_up(*_: Any) -> NoReturn:
    raise _TimeUpError


@cache
def _listen() -> None:
    signal.signal(signal.SIGVTALRM, _raise_time_up)


@contextmanager
def _limits() -> Iterator[None]:
    """Limit the processor time, and on Linux the memory, of what runs in the main thread.

    A timer is the only means that stops a loop without slowing down each of its steps. Windows has
    none, so a template is not limited there.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    import resource

    _listen()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = soft
    if sys.platform == "linux":
        most = _get_used_bytes() + BYTES
        most = most if soft == resource.RLIM_INFINITY else min(soft, most)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
        # Again and again, because Jinja ignores some of the exceptions in what it calls.
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, SECONDS / 10)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _get_used_bytes() -> int:
    """Return the address space of this process."""
    file = os.open("/proc/self/statm", os.O_RDONLY)  # pathlib takes ten times as long
    try:
        return int(os.read(file, 32).split()[0]) * os.sysconf("SC_PAGE_SIZE")
    finally:
        os.close(file)
