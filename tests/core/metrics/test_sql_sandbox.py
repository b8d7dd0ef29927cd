"""Queries and tables of strangers run in a child process, within limits."""

import os
import subprocess
import sys
import time

import pytest

from stages.core.metrics.sql_execution import execution, sandbox, worker
from stages.core.metrics.sql_execution.comparison import make_databases
from stages.core.metrics.sql_execution.sandbox import Sandbox
from stages.core.metrics.sql_execution.schema import read_schema
from stages.core.metrics.sql_execution.sql_execution import bare
from tests.conftest import ROOT
from tests.core.metrics.test_sql_metric import TYPED, YOUNG

COUNT = "SELECT count(*) FROM singer"
ENDLESS = "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x) SELECT count(*) FROM x"
BOMB = ", ".join(
    [
        "WITH a0 AS (SELECT 1)",
        *(f"a{n} AS (SELECT 1 FROM a{n - 1}, a{n - 1})" for n in range(1, 30)),  # noqa: S608
    ]
)
HARMFUL = [
    "DELETE FROM singer",
    "DROP TABLE singer",
    "SELECT count(*) FROM singer; DROP TABLE singer",
    "CREATE TABLE x AS SELECT * FROM singer",
    "ATTACH DATABASE 'stolen.db' AS x",
    "VACUUM INTO 'stolen.db'",
    "PRAGMA query_only = OFF",
    "SELECT * FROM pragma_table_info('singer')",
    "SELECT load_extension('x')",
    "BEGIN",
    ENDLESS,
    "SELECT count(*) FROM singer a, singer b, singer c, singer d, singer e, singer f, singer g, singer h",
    "SELECT * FROM singer a, singer b, singer c",
    "SELECT randomblob(100000000) FROM singer",
    "SELECT hex(zeroblob(49000)) FROM singer a, singer b, singer c",
    "SELECT printf('%.*c', 1000000000, 'x')",
    "SELECT format('%.*c', 1000000000, 'x')",
    "SELECT count(*) FROM singer ORDER BY random()",
    f"SELECT hex(Name) LIKE '{'%a' * 5000}b' FROM singer",  # noqa: S608
    f"{BOMB} SELECT count(*) FROM a29",  # noqa: S608
    f"SELECT {'(' * 5000}1{')' * 5000}",
    f"{'[' * 300_000}",
    "SELECT Name FROM singer WHERE Age = 99999999999999999999999999",
    "SELECT '\ud800', \"\x00\"",
    "SELECT CAST(x'ff' AS TEXT) FROM singer",
    "PRAGMA hard_heap_limit = 60000",
]


@pytest.fixture(scope="module")
def box():
    box = Sandbox()
    yield box
    box.close()


@pytest.mark.parametrize("query", HARMFUL)
def test_nothing_harms_or_hangs(box, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = time.monotonic()
    assert box.compare(TYPED, COUNT, query) is False
    assert not box.compare(TYPED, query, "x")  # as a reference
    box.parses(query)
    assert time.monotonic() - begun < 30 and not list(tmp_path.iterdir())
    assert box.compare(TYPED, COUNT, "SELECT count(1) FROM singer") is True


RECURSION = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c"


@pytest.mark.parametrize(
    "question",
    [
        f'CREATE TABLE [x" AS {RECURSION} /*] (b int)',
        f'CREATE TABLE x ([b" int, c AS ({RECURSION}) /*] int)',
        f'Table t, columns = [*,b" int, c AS ({RECURSION}) /*,d]',
    ],
)
def test_a_name_of_a_table_is_only_a_name(box, question):
    begun = time.monotonic()
    assert box.compare(question, "SELECT 1", "SELECT 2 - 1") is True
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "question",
    [
        "\n" * 1_000_000,
        "CREATE TABLE " + "a." * 300_000,
        "CREATE TABLE [" * 50_000,
        "(" * 1_000_000,
    ],
)
def test_the_time_to_read_tables_grows_with_the_length_of_the_question(question):
    begun = time.process_time()
    read_schema(question)
    assert time.process_time() - begun < 2  # minutes if it grew with its square


def test_what_reaches_a_limit_ends_the_child_and_the_next_row_is_scored(box, monkeypatch):
    monkeypatch.setattr(sandbox, "WALL", 0.5)
    many = "".join(f"Table: t{n}. Columns: a (number)\n" for n in range(20_000))
    assert box.compare(many, "SELECT a FROM t1", "SELECT a FROM t2") is None
    monkeypatch.setattr(sandbox, "WALL", 20)
    assert box.compare(TYPED, YOUNG, YOUNG.lower().replace("'france'", "'France'")) is True


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_memory_and_processor_time_of_the_child_are_limited():
    asked = "import resource as r; print(r.getrlimit(r.RLIMIT_AS)[0], r.getrlimit(r.RLIMIT_CPU)[0])"
    code = f"from {worker.__name__} import *; limit_resources(); {asked}; x = b'x' * 2 * MEMORY"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    memory, seconds = map(int, done.stdout.split())
    assert memory == worker.MEMORY and worker.SECONDS <= seconds <= worker.SECONDS + 2
    assert "MemoryError" in done.stderr


def test_a_defect_of_the_child_is_not_taken_for_a_wrong_answer(monkeypatch):
    monkeypatch.setattr(sandbox, "_CODE", "raise SystemExit(1)")
    with pytest.raises(RuntimeError, match="see its traceback above"):
        Sandbox().compare(TYPED, COUNT, "SELECT 1")


def test_the_child_loads_little_and_ends_with_its_parent():
    code = (
        f"from {sandbox.__name__} import SANDBOX\n"
        "assert SANDBOX.parses('SELECT 1')\n"
        "print(SANDBOX._child.pid)"
    )
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.monotonic() - begun < 20 and "ResourceWarning" not in done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
    loaded = f"import {worker.__name__}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"numpy", "torch", "evaluate"} & set(done.stdout.split())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_starts_a_child_of_its_own(box):
    same = TYPED, COUNT, "SELECT count(1) FROM singer"
    assert box.compare(*same) is True
    code = f"""
import os
from {sandbox.__name__} import SANDBOX
assert SANDBOX.compare(*{same!r}) is True
first = SANDBOX._child.pid
if pid := os.fork():
    assert os.waitpid(pid, 0)[1] == 0 and SANDBOX.compare(*{same!r}) is True
    assert SANDBOX._child.pid == first
else:
    assert SANDBOX.compare(*{same!r}) is True and SANDBOX._child.pid != first
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_a_score_does_not_change_from_run_to_run():
    schema = read_schema(TYPED)
    query = bare(f"```{YOUNG}```")
    assert query == YOUNG
    assert make_databases(schema, TYPED, query, "x") == make_databases(schema, TYPED, query, "x")


def test_every_function_that_is_allowed_is_a_name():
    assert {"->>", "count", "strftime", "row_number"} <= execution.FUNCTIONS
    assert not {"printf", "random", "zeroblob", "load_extension", "json1"} & execution.FUNCTIONS
