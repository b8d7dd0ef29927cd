"""Electricity and carbon dioxide of a block of code, measured with the optional CodeCarbon.

See https://docs.codecarbon.io.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from stages.core.config.schema import EnergyConfig
from stages.core.errors import UserError


@dataclass(slots=True)
class Energy:
    """Energy that a block of code used.

    The values are None until the block has ended, and if nothing is measured.
    """

    kwh: float | None = None
    """Kilowatt-hours of processors, memory and GPUs."""
    co2_kg: float | None = None
    """Kilograms of CO2 equivalents for the mean electricity mix of the country."""


@contextmanager
def measure(settings: EnergyConfig) -> Iterator[Energy]:
    """Measure the energy of a block, even if an exception ends it.

    The first measurement in a process costs two seconds, later ones 20 milliseconds.

    If the hardware has counters (RAPL, NVML), CodeCarbon reads them. They include the load of all
    users. Otherwise it estimates from the processor's rated power and the memory in use. The
    estimate covers only this process and its children, because the load of other users of a shared
    machine is not ours. Settings of the hardware in a `.codecarbon.config` (`pue`,
    `force_cpu_power`) apply.

    Raises:
        UserError: CodeCarbon is not installed or does not know the country.
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
        # CodeCarbon logs its own errors and continues without this attribute.
        found = getattr(tracker, "final_emissions_data", None)
        if found is not None:
            used.kwh = found.energy_consumed
            used.co2_kg = found.emissions


def _get_tracker(country: str) -> Any:
    try:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.input import DataSource
    except ModuleNotFoundError as error:
        raise UserError(
            f"energy.measure needs CodeCarbon ({error}). Run "
            "`pip install -c constraints.txt --group energy`, or set energy=none"
        ) from None
    # CodeCarbon would silently use the world's mean.
    if country not in DataSource().get_global_energy_mix_data():
        raise UserError(
            f"energy.country: CodeCarbon does not know {country!r}; give the three-letter code of "
            "a country (ISO 3166)"
        )
    # CodeCarbon logs before it has read its log level.
    logging.getLogger("codecarbon").setLevel(logging.ERROR)
    return OfflineEmissionsTracker(
        country_iso_code=country,
        tracking_mode="process",
        output_methods=[],  # no emissions.csv
        emissions_endpoint=None,
        electricitymaps_api_token="",  # a token, even one from a file, would cause network requests
        allow_multiple_runs=True,  # otherwise it writes a lock file into the temporary folder
        log_level="error",
    )
