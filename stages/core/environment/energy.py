"""Electricity and carbon dioxide of a block of code, by CodeCarbon (https://docs.codecarbon.io), which is an extra."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stages.core.config.schema import EnergyConfig
from stages.core.errors import UserError


@dataclass(slots=True)
class Energy:
    """What a block took; None until it has ended, and where nothing is measured."""

    kwh: float | None = None
    """Kilowatt-hours of processors, memory and GPUs."""
    co2_kg: float | None = None
    """Kilograms of CO2 equivalents, by the country's mean mix of electricity."""


@contextmanager
def measure(settings: EnergyConfig) -> Iterator[Energy]:
    """Measure the block, an unfinished one too. The first time in a process costs two seconds, later 20 milliseconds.

    Where the hardware has counters (RAPL, NVML) they are read, and count everybody's load. Elsewhere CodeCarbon
    estimates from the processor's rated power and the memory in use, of this process and its children alone: on a
    machine that others share, their load is not ours. What a `.codecarbon.config` says of the hardware (`pue`,
    `force_cpu_power`) holds.

    Raises:
        UserError: CodeCarbon is not installed, or does not know the country.
    """
    used = Energy()
    if not settings.measure:
        yield used
        return
    tracker = _get_tracker(settings.country)
    tracker.start()
    try:
        yield used
    finally:
        tracker.stop()
        found = getattr(
            tracker, "final_emissions_data", None
        )  # CodeCarbon logs its own defects and goes on
        if found is not None:
            used.kwh = found.energy_consumed
            used.co2_kg = found.emissions


def _get_tracker(country: str) -> Any:
    try:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.input import DataSource
    except ModuleNotFoundError as error:
        raise UserError(
            f"energy.measure needs CodeCarbon ({error}): `pip install -c constraints.txt '.[energy]'`, "
            "or energy=unmeasured"
        ) from None
    if (
        country not in DataSource().get_global_energy_mix_data()
    ):  # it would take the world's mean, and say so nowhere
        raise UserError(
            f"energy.country: CodeCarbon does not know {country!r}; give a country's three letters of ISO 3166"
        )
    logging.getLogger("codecarbon").setLevel(
        logging.ERROR
    )  # it speaks before it has read its log level
    return OfflineEmissionsTracker(
        country_iso_code=country,
        tracking_mode="process",
        output_methods=[],  # no emissions.csv
        emissions_endpoint=None,
        electricitymaps_api_token="",  # not from a file either: it would ask the network
        allow_multiple_runs=True,  # else a lock in the folder for temporary files
        log_level="error",
    )
