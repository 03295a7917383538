"""lepton-sim: how long a model takes on a candidate chip, where time and energy go, how far from the lower bound.

    import sim
    report = sim.simulate("resnet50", chip="lepton_m", batch=8)

A run:      simulate -> Report (.summary .ops .resources .energy .stalls .critical_path ... are DataFrames, units in the
            names of columns), load_report, compare; plan and verify_values stop before the clock starts
Many:       sweep and open_study -> Study (.front .designs .table), load_space; bound is the closed form of many designs
Inputs:     load_chip -> Chip (chip.replace("core.array.rows", 256)), load_model -> Graph
Pictures:   sim.plot draws a Report or a Study's table on matplotlib Axes
Errors:     InputError (bad input, says where and what was expected), DoesNotFit (needed, available, what may help)

The public names are loaded on first use, so that `import sim` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.errors import DoesNotFit as DoesNotFit
    from sim.errors import InputError as InputError
    from sim.explore.compare import compare as compare
    from sim.explore.space import Space as Space
    from sim.explore.space_file import load_space as load_space
    from sim.explore.store import open_study as open_study
    from sim.explore.study import Study as Study
    from sim.explore.sweep import sweep as sweep
    from sim.graph.graph import Graph as Graph
    from sim.graph.load import load_model as load_model
    from sim.hw.chip import Chip as Chip
    from sim.hw.chip import load_chip as load_chip
    from sim.pipeline import bound as bound
    from sim.pipeline import plan as plan
    from sim.pipeline import simulate as simulate
    from sim.pipeline import verify_values as verify_values
    from sim.program import Program as Program
    from sim.report.load import load_report as load_report
    from sim.report.report import Report as Report
    from sim.timeline import Timeline as Timeline

__version__ = "0.1.0"

_HOME = {
    "Chip": "sim.hw.chip",
    "DoesNotFit": "sim.errors",
    "Graph": "sim.graph.graph",
    "InputError": "sim.errors",
    "Program": "sim.program",
    "Report": "sim.report.report",
    "Space": "sim.explore.space",
    "Study": "sim.explore.study",
    "Timeline": "sim.timeline",
    "bound": "sim.pipeline",
    "compare": "sim.explore.compare",
    "load_chip": "sim.hw.chip",
    "load_model": "sim.graph.load",
    "load_report": "sim.report.load",
    "load_space": "sim.explore.space_file",
    "open_study": "sim.explore.store",
    "plan": "sim.pipeline",
    "simulate": "sim.pipeline",
    "sweep": "sim.explore.sweep",
    "verify_values": "sim.pipeline",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What a user types: the public names, the modules that were loaded, and what every module has."""
    inner = {name for name, value in globals().items() if name.startswith("__") or isinstance(value, ModuleType)}
    return sorted({*inner, *_HOME})
