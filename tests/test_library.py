"""The library as somebody meets it in a notebook: names, help, what objects print, errors."""

from __future__ import annotations

import inspect
import re

import pandas as pd
import pytest

import sim
from sim.pipeline import Options

RUN = ("lenet5", "tiny")


@pytest.fixture(scope="module")
def report() -> sim.Report:
    return sim.simulate(*RUN, dtype="int8")


def test_completion_offers_the_public_names_and_no_others() -> None:
    offered = {name for name in dir(sim) if not name.startswith("_") and not inspect.ismodule(getattr(sim, name))}
    assert offered == set(sim.__all__) - {"__version__"}


@pytest.mark.parametrize("name", sim.__all__[1:])
def test_every_public_name_says_what_it_is(name: str) -> None:
    about = inspect.getdoc(getattr(sim, name))
    assert about
    assert not about.startswith(f"{name}(")  # a dataclass without a docstring gets its signature
    assert re.search(rf"\b{name}\b", sim.__doc__ or "") or name[0].isupper()


@pytest.mark.parametrize("name", ["simulate", "bound", "plan", "verify_values"])
def test_help_names_every_option_with_its_default(name: str) -> None:
    parameters = inspect.signature(getattr(sim, name)).parameters
    assert set(Options.__annotations__) <= set(parameters)
    assert (parameters["inputs"].default, parameters["partition"].default) == (1, "auto")
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def test_objects_are_a_line_and_a_report_prints_as_on_the_command_line(report: sim.Report) -> None:
    study = sim.sweep("teaching", fidelity="bound", workers=1)
    program = sim.plan(*RUN, dtype="int8")[2]
    for one in (report, study, program):
        assert len(repr(one).splitlines()) == 1
        assert len(repr(one)) < 200
    assert f"{1e6 * float(report['latency_s'] or 0):.1f} us" in repr(report)
    assert "18 designs" in repr(study)
    assert f"{program.tasks:,} tasks" in repr(program)
    assert str(report).startswith("lenet5 on tiny  (event, compiled engine, int8, auto partition)")
    assert "Where did the energy go" in str(report)


def test_dimensional_columns_of_frames_name_their_units(report: sim.Report) -> None:
    """Every number that is no count, share or name has its unit at the end."""
    ends = ("_s", "_j", "_w", "_ps", "_bytes", "_per_s", "_mm2", "_usd", "_per_w", "_per_dram_byte")
    plain = {
        "inputs", "chips", "macs", "tasks", "core", "cores", "repeats", "segment", "part", "ops", "number", "input",
        "bytes",  # of resources
        "array_utilization", "utilization", "share", "bound_ratio", "validated_share", "time_error_low",
        "time_error_high", "dram_error_low", "dram_error_high", "cache_hit_rate", "hit_rate",
    }  # fmt: skip
    tables = "summary ops resources energy power area cost stalls critical_path timeline"
    for name in tables.split():
        frame = getattr(report, name)
        assert isinstance(frame, pd.DataFrame)
        numbers = frame.select_dtypes("number").columns
        unknown = [column for column in numbers if not column.endswith(ends) and column not in plain]
        assert unknown == [], name


def test_errors_say_what_was_meant(report: sim.Report) -> None:
    with pytest.raises(KeyError, match="latency; did you mean 'latency_s'"):
        report["latency"]
    for wrong in ("3", 2.0, True):
        with pytest.raises(sim.InputError, match=re.escape(f"batch: found {wrong!r}; expected a whole number")):
            sim.simulate(*RUN, batch=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected option 'batchs'; did you mean 'batch'"):
        sim.simulate(*RUN, batchs=3)  # type: ignore[call-arg]
    with pytest.raises(sim.DoesNotFit, match=r"a larger dram\.capacity"):
        sim.simulate("llama2_7b", "tiny", dtype="int8")
