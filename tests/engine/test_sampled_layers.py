"""Layers of which only some are simulated: which, for how many they count, and what is told of it."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import sim
from sim.cost.repeats import sample, sampled_repeats
from sim.engine import compiled, reference
from sim.errors import InputError
from sim.hw.chip import Chip, load_chip
from sim.pipeline import plan
from sim.program import Program
from sim.report.report import Report
from sim.report.text import render_text

STEP: dict[str, Any] = {"dtype": "bf16", "phase": "decode", "kv": 16}


def hashed() -> Chip:
    """A chip of few cores whose cache holds three of twelve layers of a small GPT and hashes its sets."""
    return load_chip("lepton_m", {"cache.hashed": True, "cache.size": "16 MiB"})


def render(report: Report) -> str:
    stream = io.StringIO()
    render_text(report, Console(file=stream, width=200))
    return " ".join(stream.getvalue().split())


@pytest.mark.parametrize("most", [3, 4, 5, 8, 31, 32, 33])
@pytest.mark.parametrize("many", [1, 2, 3, 12, 32, 33])
def test_a_sample_counts_for_all_and_hands_on_in_turns(many: int, most: int) -> None:
    chosen = sample(many, most)
    run = [repeat for repeat, _ in chosen]
    assert sum(stands_for for _, stands_for in chosen) == many
    assert run == sorted(set(run))
    assert run[0] == 0
    assert run[-1] == many - 1
    assert min(many, most) - 1 <= len(run) <= most
    # What repeat n reads lies where the one before it wrote: places take turns, so steps between repeats are odd.
    assert all((after - before) % 2 == 1 for before, after in itertools.pairwise(run))


def test_samples_by_hand() -> None:
    assert sample(32, 4) == [(0, 1), (1, 1), (30, 1), (31, 29)]
    assert sample(33, 4) == [(0, 1), (31, 1), (32, 31)]
    assert sample(12, 0) == [(repeat, 1) for repeat in range(12)]


@pytest.fixture(scope="module")
def program() -> Program:
    found = plan("gpt2", hashed(), **STEP)[2]
    return replace(found, sampled=4)


def test_both_engines_run_the_same_sample(program: Program) -> None:
    one, other = compiled.run(program), reference.run(program)
    assert one.repeats == other.repeats
    for mine, theirs in zip(one.segments, other.segments, strict=True):
        assert np.array_equal(mine.finish, theirs.finish)
    layers = [(t.end, n) for t, n, of in zip(one.segments, one.repeats, one.segment_of, strict=True) if of == 1]
    assert sum(n for _, n in layers) == program.repeats[1] == 12
    (told,) = sampled_repeats(program, one)
    ends = [end for end, _ in layers]
    assert (told["repeats"], told["run"]) == (12, 4)
    assert (told["least_ps"], told["most_ps"]) == (min(ends), max(ends))
    assert told["least_bytes"] < told["most_bytes"]
    assert sampled_repeats(replace(program, sampled=12), one) == []


def test_a_sample_is_near_the_whole_and_says_what_it_is() -> None:
    whole, part = (sim.simulate("gpt2", hashed(), **STEP, sample_layers=most) for most in (None, 6))
    (told,) = part.facts["sampled"]
    apart = told["most_ps"] / told["least_ps"] - 1
    assert 0 < apart < 0.1
    assert part["latency_s"] == pytest.approx(whole["latency_s"], rel=apart)
    assert part["macs"] == whole["macs"]
    assert part["tasks"] == whole["tasks"]
    assert whole.facts["sampled"] == []
    note = "6 of 12 equal layers (block 0) were simulated, the others count as the last (--sample-layers)"
    text = render(part)
    assert note in text
    assert f"up to {apart:.2%} apart in time" in text
    assert "--sample-layers" not in render(whole)


def test_without_a_cache_nothing_is_left_out() -> None:
    whole, part = (sim.simulate("gpt2", "lepton_s", **STEP | {"dtype": "int8"}, sample_layers=m) for m in (None, 3))
    assert part["latency_s"] == whole["latency_s"]
    assert part.facts["sampled"] == []


def test_what_simulates_nothing_takes_no_sample() -> None:
    with pytest.raises(InputError, match="sample_layers: found 2; expected 3 or more"):
        sim.simulate("lenet5", "lepton_s", sample_layers=2)
    with pytest.raises(InputError, match=r"sample_layers: found 4\.5; expected a whole number"):
        sim.simulate("lenet5", "lepton_s", sample_layers=4.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fidelity bound simulates none"):
        sim.simulate("lenet5", "lepton_s", fidelity="bound", sample_layers=4)
    with pytest.raises(InputError, match="simulates none"):
        sim.bound("lenet5", "lepton_s", {"core.array.rows": [8]}, sample_layers=4)
    with pytest.raises(InputError, match="numbers are computed of all"):
        sim.verify_values("lenet5", "lepton_s", sample_layers=4)
