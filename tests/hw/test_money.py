"""Cost of a chip against textbook examples, and yield with spares against simulation and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sim.config import list_resources
from sim.errors import InputError
from sim.hw.area import chip_area
from sim.hw.chip import load_chip
from sim.hw.money import (
    COST_COMPONENTS,
    PRICE_FOLDER,
    Cores,
    chip_cost,
    chip_yield,
    cost_per_million,
    die_yield,
    dies_per_wafer,
    load_prices,
    negative_binomial_yield,
)
from sim.hw.technology import load_technology

PRICES = load_prices("default")
N7 = load_technology("n7")


# Hennessy and Patterson, Computer Architecture, 1.6: dies of 15 and 10 mm on a wafer of 300 mm.
@pytest.mark.parametrize(("die_mm2", "dies"), [(225, 270), (100, 640)])
def test_dies_per_wafer(die_mm2: float, dies: int) -> None:
    assert dies_per_wafer(die_mm2) == pytest.approx(dies, abs=0.6)
    assert dies_per_wafer(die_mm2, 0.1) < dies_per_wafer(die_mm2)


def test_dies_per_wafer_at_the_ends() -> None:
    # A die of 600 mm2: 117.8 by area, of which the edge takes 27.2.
    assert dies_per_wafer(600) == pytest.approx(117.81 - 27.21, abs=0.01)
    assert dies_per_wafer(600, 0.1) == dies_per_wafer((math.sqrt(600) + 0.1) ** 2)
    assert dies_per_wafer(44_000) == 1
    assert dies_per_wafer(46_000) == 0


# Hennessy and Patterson, 4th edition, 1.6: 0.4 defects per cm2, alpha 4.
@pytest.mark.parametrize(("die_mm2", "good"), [(225, 0.44), (100, 0.68)])
def test_negative_binomial_yield(die_mm2: float, good: float) -> None:
    assert negative_binomial_yield(die_mm2, 0.4, 4) == pytest.approx(good, abs=0.005)


@pytest.mark.parametrize("clustering", [2.0, 3.0, 4.5])
@pytest.mark.parametrize("die_mm2", [1.0, 100.0, 826.0])
def test_without_spares_the_mixture_is_the_closed_form(clustering: float, die_mm2: float) -> None:
    cores = [Cores(die_mm2 / 20, 8, 0), Cores(die_mm2 / 50, 5, 0)]
    found = die_yield(die_mm2 / 2, cores, 0.15, clustering)
    assert found == pytest.approx(negative_binomial_yield(die_mm2, 0.15, clustering), rel=1e-4)


def test_spares_against_dies_thrown_at_random() -> None:
    rng = np.random.default_rng(7)
    trials, core_mm2, count, spare, rest_mm2 = 200_000, 4.0, 108, 20, 300.0
    per_mm2 = rng.gamma(3.0, 0.15 / 3.0, trials) / 100
    dead = rng.binomial(count + spare, 1 - np.exp(-core_mm2 * per_mm2))
    rest = rng.random(trials) < np.exp(-rest_mm2 * per_mm2)
    thrown = ((dead <= spare) & rest).mean()
    found = die_yield(rest_mm2, [Cores(core_mm2, count, spare)], 0.15, 3.0)
    assert found == pytest.approx(thrown, abs=0.005)
    assert found > 1.5 * negative_binomial_yield(rest_mm2 + 128 * core_mm2, 0.15, 3.0)


def test_cost_by_hand() -> None:
    chip = load_chip("lepton_m")
    found = chip_cost(chip, N7, PRICES)
    assert found is not None
    assert tuple(found) == COST_COMPONENTS
    die_mm2 = sum(chip_area(chip, N7).values())
    side = math.sqrt(die_mm2) + 0.1
    dies = math.pi * 150**2 / side**2 - math.pi * 300 / math.sqrt(2) / side
    good = (1 + die_mm2 / 100 * 0.15 / 3) ** -3
    assert found["die"] == pytest.approx(9346 / dies / good, rel=1e-3)
    # One stack of HBM3 at 10 USD per 1e9 B, on an interposer under both.
    assert found["dram"] == pytest.approx(24 * 1.073741824 * 10)
    assert found["package"] == pytest.approx(21 + 0.03 * die_mm2 + 0.1 * (die_mm2 + 110))
    lost = (found["die"] + found["dram"] + found["package"]) * (1 / 0.98 - 1)
    assert found["assembly_loss"] == pytest.approx(lost)
    assert found["test"] == 10


def test_modules_on_a_board_need_no_interposer_and_are_not_lost() -> None:
    chip = load_chip("lepton_s")
    n16 = load_technology("n16")
    found = chip_cost(chip, n16, PRICES)
    assert found is not None
    assert found["package"] == pytest.approx(21 + 0.03 * sum(chip_area(chip, n16).values()))
    assert found["assembly_loss"] == pytest.approx((found["die"] + found["package"]) * (1 / 0.98 - 1))


def test_spare_cores_cost_area_and_win_yield() -> None:
    chip = load_chip("lepton_m")
    spare = chip.replace("core.spare", 1)
    assert sum(chip_area(spare, N7).values()) > 1.05 * sum(chip_area(chip, N7).values())
    assert chip_yield(spare, N7, PRICES) > chip_yield(chip, N7, PRICES)
    assert spare.core_count == chip.core_count


def test_a_die_larger_than_a_wafer_has_no_cost() -> None:
    assert chip_cost(load_chip("lepton_m", {"cache.size": "64 GiB"}), N7, PRICES) is None


def test_cost_per_million() -> None:
    # 1000 USD x 2 over 4 years at 60 %: 26.4 uUSD a second; 200 W x 1.1 x 0.08 USD/kWh: 4.89 uUSD a second.
    assert cost_per_million(1000, 200, 1000, PRICES) == pytest.approx(0.0264 + 0.00489, rel=2e-3)
    assert cost_per_million(1000, 200, 2000, PRICES) == pytest.approx(
        cost_per_million(1000, 200, 1000, PRICES) / 2
    )
    kwh = 3.6e6 / 1.1
    free = replace(PRICES, system_over_chip=replace(PRICES.system_over_chip, value=1e-12))
    assert cost_per_million(1, kwh, 1.0, free) == pytest.approx(0.08e6)


def test_every_price_has_a_source() -> None:
    assert list_resources(PRICE_FOLDER) == ("default",)
    with pytest.raises(InputError, match=r"prices: unknown price list 'defualt'; did you mean 'default'\?"):
        load_chip("lepton_m", {"prices": "defualt"})
