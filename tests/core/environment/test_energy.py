import sys
import tempfile
import threading
import time

import pytest

from stages.core.config.schema import EnergyConfig
from stages.core.environment.energy import measure
from stages.core.errors import UserError

MEASURED = EnergyConfig(measure=True, country="USA")


def work(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until:
        sum(range(10_000))


def test_nothing_is_measured_or_imported_when_it_is_off():
    sys.modules.pop("codecarbon", None)
    with measure(EnergyConfig(measure=False, country="USA")) as used:
        pass
    assert used.kwh is None and used.co2_kg is None
    assert "codecarbon" not in sys.modules


def test_a_longer_block_takes_more_and_leaves_nothing_behind(workspace, monkeypatch):
    monkeypatch.setenv("HOME", str(workspace))
    monkeypatch.setattr(tempfile, "tempdir", str(workspace))  # where its lock file would lie
    threads = set(threading.enumerate())
    found = []
    for seconds in (0.2, 1.6):
        with measure(MEASURED) as used:
            assert used.kwh is None  # not yet
            work(seconds)
        found.append(used)
    assert 0 < found[0].kwh < found[1].kwh < 0.01
    assert 0.05 < found[1].co2_kg / found[1].kwh < 1  # kilograms a kilowatt-hour of any country
    assert list(workspace.iterdir()) == []
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
        assert not thread.is_alive()


def test_cleaner_electricity_makes_less_carbon_dioxide():
    ratios = []
    for country in ("NOR", "POL"):
        with measure(EnergyConfig(measure=True, country=country)) as used:
            work(0.3)
        ratios.append(used.co2_kg / used.kwh)
    assert ratios[0] * 5 < ratios[1]


def test_a_block_that_fails_is_measured_too():
    with pytest.raises(ZeroDivisionError), measure(MEASURED) as used:
        work(0.2)
        raise ZeroDivisionError
    assert used.kwh > 0


def test_two_at_a_time_are_both_measured():
    with measure(MEASURED) as outer, measure(MEASURED) as inner:
        work(0.2)
    assert outer.kwh > 0 and inner.kwh > 0


def test_an_unknown_country_is_one_message():
    with (
        pytest.raises(UserError, match=r"energy\.country.*'XYZ'"),
        measure(EnergyConfig(measure=True, country="XYZ")),
    ):
        pass


def test_without_codecarbon_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(UserError, match=r"pip install .* --group energy"), measure(MEASURED):
        pass
