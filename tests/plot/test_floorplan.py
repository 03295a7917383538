"""The die picture: rectangles fill the square, do not overlap and are as large as their components."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")

import pandas as pd
import pytest

from sim.errors import InputError
from sim.hw.area import AREA_COMPONENTS, chip_area
from sim.hw.chip import load_chip
from sim.hw.technology import load_technology
from sim.plot.floorplan import plot_floorplan, tiled
from sim.report.words import AREA_WORDS


def die(name: str) -> pd.DataFrame:
    chip = load_chip(name)
    area = chip_area(chip, load_technology(chip.technology))
    return pd.DataFrame({"component": list(area), "area_mm2": list(area.values())})


@pytest.mark.parametrize("areas", [[16.0], [6, 6, 4, 3, 2, 2, 1], [100, 1, 0.01], [1.0] * 17])
def test_rectangles_fill_the_square_without_overlap(areas: list[float]) -> None:
    side = sum(areas) ** 0.5
    found = tiled(areas, side)
    assert [w * h for _, _, w, h in found] == pytest.approx(areas)
    for i, (x, y, w, h) in enumerate(found):
        assert min(x, y) >= -1e-9
        assert max(x + w, y + h) <= side * (1 + 1e-9)
        for u, v, p, q in found[:i]:
            apart = max(x, u) >= min(x + w, u + p) - 1e-9 or max(y, v) >= min(y + h, v + q) - 1e-9
            assert apart


def test_the_published_example() -> None:
    # Bruls et al. 2000, fig. 4: areas 6 6 4 3 2 2 1 in 6 x 4; here in a square: two sixes first, 12/sqrt(24) wide.
    found = tiled([6, 6, 4, 3, 2, 2, 1], 24**0.5)
    assert found[0][2] == pytest.approx(12 / 24**0.5)
    assert found[0][3] == found[1][3] == pytest.approx(24**0.5 / 2)


def test_every_component_is_drawn_with_its_name() -> None:
    table = die("lepton_m")
    axes = plot_floorplan(table, title="lepton_m")
    present = table[table["area_mm2"] > 0]
    drawn = {c.get_label().removeprefix("_"): c.patches[0] for c in axes.containers}  # type: ignore[attr-defined]
    assert set(drawn) == set(present["component"])
    for name, mm2 in zip(present["component"], present["area_mm2"], strict=True):
        assert drawn[name].get_width() * drawn[name].get_height() == pytest.approx(mm2)
    texts = " ".join(text.get_text() for text in axes.texts)
    assert "scratchpads" in texts
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("width (mm)", "height (mm)")
    assert f"{table['area_mm2'].sum():.0f} mm2" in axes.get_title()
    mpl.pyplot.close("all")


def test_words_for_every_component() -> None:
    assert tuple(AREA_WORDS) == AREA_COMPONENTS


def test_nothing_to_draw() -> None:
    with pytest.raises(InputError, match="no component has an area"):
        plot_floorplan(pd.DataFrame({"component": ["cache"], "area_mm2": [0.0]}))
