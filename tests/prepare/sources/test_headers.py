import csv
import gzip
import io
import subprocess
import sys

from tests.prepare.rows import read


def test_a_header_that_fits_no_format_is_one_finding_whatever_the_rows(config, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("frage,antwort\n" + "a,b\n" * 500 + "one field too,many,here\n")
    records, findings, reader = read(config, path)
    assert records == [] and [(f.code, f.line) for f in findings] == [
        ("unknown_format", 1),
        ("too_few_rows", 0),
    ]
    assert findings[0].found == "columns antwort, frage" and reader.rows == 1


def test_the_rows_of_the_next_file_are_read(config, tmp_path):
    (tmp_path / "a.csv").write_text("frage,antwort\na,b\n")
    (tmp_path / "b.csv").write_text("text,label\na,b\nc,b\n")
    records, findings, _ = read(config, tmp_path / "*.csv", "checks.unknown_format=drop")
    assert len(records) == 2 and [(f.file, f.line) for f in findings] == [("a.csv", 1)]


def test_the_command_for_another_separator_converts_the_file(config, tmp_path):
    path = tmp_path / "my rows.csv"
    path.write_text('text;label\n"a; b, c";x\nd;y\n')
    command = read(config, path)[1][0].todo.partition(": ")[2]
    command = command.replace("python", sys.executable)
    subprocess.run(command, shell=True, check=True)  # noqa: S602
    converted = (tmp_path / "commas-my rows.csv").read_text()
    assert list(csv.reader(io.StringIO(converted)))[1] == ["a; b, c", "x"]
    assert len(read(config, tmp_path / "commas-my rows.csv")[0]) == 2


def test_the_command_for_another_encoding_converts_the_file(config, tmp_path):
    for name, codec in (("my rows.csv", "utf-16"), ("b.csv", "utf-16-le"), ("c.csv", "utf-32")):
        path = tmp_path / name
        path.write_bytes("text,label\nä,x\nb,y\n".encode(codec))
        command = read(config, path)[1][0].todo.partition(": ")[2]
        subprocess.run(command, shell=True, check=True)  # noqa: S602
        records, findings, _ = read(config, tmp_path / f"utf-8-{name}")
        assert [record.question for record in records] == ["ä", "b"] and findings == []


def test_the_command_for_a_packed_file_unpacks_it(config, tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress("text,label\nä,x\n".encode("utf-16")))
    command = read(config, path)[1][0].todo.partition(": ")[2]
    subprocess.run(command, shell=True, check=True)  # noqa: S602
    assert len(read(config, tmp_path / "utf-8-rows.csv")[0]) == 1
