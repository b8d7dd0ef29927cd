import pytest

from stages.core.data.predictions import Prediction
from stages.core.metrics.library import evaluate
from stages.core.metrics.metrics import METRICS_FOLDER, Metrics
from stages.core.metrics.sql_execution.schema import read_schema
from tests.conftest import chat

TYPED = """Use only the following tables and columns:
Table: singer. Columns: Singer_ID (number), Name (text), Country (text), Age (number), Net_worth_(millions) (number)
Table: concert. Columns: concert_ID (number), Theme (text), Singer_ID (text), Held_date (time)
Table: sqlite_sequence. Columns: name (text), seq (text)

Question: how many?
"""
LISTED = (
    "Table battle, columns = [*,id,name,result]\n"
    "Table ship, columns = [*,lost_in_battle,id,name,tonnage]\nQ: which?"
)
CREATED = """-- the shop, in MySQL's words
CREATE TABLE IF NOT EXISTS `shop`.`item` (
  `item_id` int(11) NOT NULL AUTO_INCREMENT COMMENT 'a, (b', `title` varchar(255) DEFAULT 'x,y', price DECIMAL(10, 2),
  sold_on DATETIME, PRIMARY KEY (`item_id`), KEY t (title), CHECK ((price > (0)))
) ENGINE=InnoDB;
CREATE TABLE sale (id INTEGER PRIMARY KEY, item_id INT REFERENCES item(item_id), amount INT, "paid in" TEXT)"""


@pytest.fixture(scope="module")
def metric():
    return evaluate.load(str(METRICS_FOLDER / "sql_execution" / "sql_execution.py"))


def match(metric, prediction, reference, question=TYPED):
    record = {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": reference},
        ]
    }
    return metric.compute(predictions=[prediction], references=[reference], records=[record])[
        "rows"
    ] == [[1, 1]]


YOUNG = "SELECT Name FROM singer WHERE Age < 20 AND Country = 'France'"
SUNG = "SELECT T1.Name FROM singer AS T1 JOIN concert AS T2 ON T1.Singer_ID = T2.Singer_ID WHERE T2.Theme = 'Love'"


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("select s.name from SINGER s where s.country = 'France' and s.age < 20;", YOUNG),
        ("```sql\nSELECT Name FROM singer WHERE Age <= 19 AND Country = 'France';\n```", YOUNG),
        ('SQL: SELECT Name AS n FROM singer WHERE Country = "France" AND NOT Age >= 20', YOUNG),
        (
            "SELECT b.Name FROM concert a JOIN singer b USING (Singer_ID) WHERE a.Theme = 'Love'",
            SUNG,
        ),
        (
            "SELECT Name FROM singer WHERE Singer_ID IN (SELECT Singer_ID FROM concert)",
            "SELECT Name FROM singer s WHERE EXISTS (SELECT 1 FROM concert c WHERE c.Singer_ID = s.Singer_ID)",
        ),
        ("SELECT count(1) FROM singer", "SELECT count(*) FROM singer"),
        ("SELECT sum(Age) * 1.0 / count(*) FROM singer", "SELECT avg(Age) FROM singer"),
        ("SELECT Age FROM singer ORDER BY 1 DESC LIMIT 1", "SELECT max(Age) FROM singer"),
        ("SELECT DISTINCT Country FROM singer", "SELECT Country FROM singer GROUP BY Country"),
        (
            "SELECT Name, Age FROM singer ORDER BY Age DESC",
            "SELECT Name, Age FROM singer",
        ),  # any order will do
        (
            "SELECT Country, count(*) FROM (SELECT * FROM singer ORDER BY Name) GROUP BY 1 ORDER BY 2",
            "SELECT Country, count(*) FROM singer GROUP BY Country ORDER BY count(*)",  # ties in any order
        ),
        (
            "SELECT Name FROM singer WHERE Age BETWEEN 20 AND 30",
            "SELECT Name FROM singer WHERE Age>=20 AND Age<=30",
        ),
        (
            "WITH x AS (SELECT Country FROM singer WHERE Age > 40) SELECT DISTINCT Country FROM x",
            "SELECT DISTINCT Country FROM singer WHERE Age > 40",
        ),
        ("SELECT concert_ID FROM concert WHERE Held_date LIKE '2014%'",) * 2,
        (
            "SELECT concert_ID FROM concert WHERE substr(Held_date, 1, 4) = '2014'",
            "SELECT concert_ID FROM concert WHERE strftime('%Y', Held_date) = '2014'",
        ),
    ],
)
def test_equivalent_queries_match(metric, prediction, reference):
    assert match(metric, prediction, reference)


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("SELECT Country FROM singer WHERE Age < 20 AND Country = 'France'", YOUNG),  # column
        ("SELECT Name FROM singer WHERE Age <= 20 AND Country = 'France'", YOUNG),  # operator
        ("SELECT Name FROM singer WHERE Age < 20 OR Country = 'France'", YOUNG),
        ("SELECT Name FROM singer WHERE Age < 20 AND Country = 'france'", YOUNG),  # literal
        ("SELECT Name FROM singer WHERE Age < 20", YOUNG),  # condition
        ("SELECT Name FROM singer", YOUNG),
        ("SELECT Name, Age FROM singer WHERE Age < 20 AND Country = 'France'", YOUNG),
        (
            "SELECT DISTINCT T1.Name FROM singer T1 JOIN concert T2 USING (Singer_ID) WHERE T2.Theme = 'Love'",
            SUNG,
        ),
        ("SELECT Name FROM singer, concert WHERE Theme = 'Love'", SUNG),
        ("SELECT max(Age) FROM singer", "SELECT avg(Age) FROM singer"),  # aggregate
        (
            "SELECT count(*) FROM concert WHERE Held_date = '2013'",
            "SELECT count(*) FROM concert WHERE Held_date = '2014'",
        ),
        ("SELECT count(DISTINCT Country) FROM singer", "SELECT count(Country) FROM singer"),
        (
            "SELECT Name FROM singer ORDER BY Age",
            "SELECT Name FROM singer ORDER BY Age DESC",
        ),  # order
        ("SELECT Name FROM singer", "SELECT Name FROM singer ORDER BY Age"),
        (
            "SELECT Name FROM singer ORDER BY Age LIMIT 2",
            "SELECT Name FROM singer ORDER BY Age LIMIT 1",
        ),
        (
            "SELECT Name FROM singer WHERE Age != 30 AND Name != 'Ann'",
            "SELECT Name FROM singer WHERE Age != 30",
        ),
        (
            "SELECT Name FROM singer UNION SELECT Theme FROM concert",
            "SELECT Name FROM singer INTERSECT SELECT Theme",
        ),
        (
            "SELECT Country FROM singer GROUP BY Country HAVING count(*) >= 2",
            "SELECT Country FROM singer GROUP BY Country HAVING count(*) > 2",
        ),
        (
            "SELECT Name FROM singer LEFT JOIN concert USING (Singer_ID)",
            "SELECT Name FROM singer NATURAL JOIN concert",
        ),
        ("SELECT Name FROM singer WHERE Country IS NOT NULL", "SELECT Name FROM singer"),
        ("SELECT Name FROM singers", "SELECT Name FROM singer"),  # no such table
        ("I do not know", "SELECT Name FROM singer"),
        ("", "SELECT Name FROM singer"),
    ],
)
def test_other_queries_do_not(metric, prediction, reference):
    assert not match(metric, prediction, reference)


LOST = "SELECT s.name FROM ship s, battle b WHERE b.id = s.lost_in_battle AND b.name = 'Serres'"
LOST_TOO = (
    "SELECT name FROM ship WHERE lost_in_battle IN (SELECT id FROM battle WHERE name = 'Serres')"
)
PAID = "SELECT title FROM item NATURAL JOIN sale WHERE `paid in` = 'EUR'"
PAID_TOO = (
    "SELECT title FROM item a JOIN sale b ON a.item_id = b.item_id WHERE b.\"paid in\" = 'EUR'"
)
SUMS = "SELECT sum(amount) FROM sale GROUP BY item_id"
OTHER_SUMS = "SELECT sum(amount) FROM item JOIN sale USING (item_id) GROUP BY item_id"


@pytest.mark.parametrize(
    ("prediction", "reference", "question", "same"),
    [
        (LOST, LOST_TOO, LISTED, True),
        ("SELECT avg(tonnage) FROM ship", "SELECT sum(tonnage) FROM ship", LISTED, False),
        (
            "SELECT title FROM item WHERE price < 2.5",
            "SELECT title FROM item WHERE 2.5 > price",
            CREATED,
            True,
        ),
        (
            "SELECT title FROM item WHERE price < 2",
            "SELECT title FROM item WHERE price < 2.5",
            CREATED,
            False,
        ),
        (PAID, PAID_TOO, CREATED, True),
        (SUMS, OTHER_SUMS, CREATED, False),
    ],
)
def test_every_way_to_name_the_tables(metric, prediction, reference, question, same):
    assert match(metric, prediction, reference, question) is same


def test_columns_of_create_table():
    schema = read_schema(CREATED)
    assert {table: list(columns) for table, columns in schema.items()} == {
        "item": ["item_id", "title", "price", "sold_on"],
        "sale": ["id", "item_id", "amount", "paid in"],
    }


@pytest.mark.parametrize("question", ["no tables here", TYPED])
def test_texts_are_compared_where_the_reference_does_not_run(metric, question):
    reference = "SELECT a FROM unknown  WHERE b = 1"
    assert match(metric, "```sql\nselect a from unknown where b = 1;\n```", reference, question)
    assert not match(metric, "SELECT a FROM unknown WHERE 1 = b", reference, question)
    assert metric.compute(predictions=["SELECT 1;"], references=["select 1"])["sql_execution"] == 1


def test_rows_compared_as_texts_are_counted_and_forms_are_told():
    metrics = Metrics(["sql_execution"], {})
    reference = "SELECT Name FROM singer"
    records = [chat(TYPED, reference), chat("no tables", reference), chat("none", "SELECT 1")]
    for text in ("select name from SINGER", "SELECT x"):  # two arms, the same rows
        answers = [Prediction(record.id, "few_shot", text, 1, 1, 0.1) for record in records]
        metrics.score_records(answers, records)
    facts = metrics.metadata()["sql_execution"]
    assert (facts["rows"], facts["rows_compared_as_text"]) == (3, 2)
    answers = [
        "SELECT a FROM b;",
        "SELECT",
        "I do not know",
        "SELECT a FROM b; SELECT 1",
        "",
        "```sql\nSELECT 1\n```",
    ]
    assert metrics.well_formed("sql_execution", answers, [reference]) == [True, *[False] * 5]
    assert metrics.well_formed("sql_execution", answers, ["```sql\nSELECT 2\n```"])[-1]
