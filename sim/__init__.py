"""lepton-sim: how long a model takes on a candidate chip, where time and energy go, how far from the lower bound.

    import sim
    report = sim.simulate("resnet50", chip="lepton_m", batch=8)

The public names are loaded on first use, so that `import sim` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from sim.report.report import Report as Report
    from sim.timeline import Timeline as Timeline

__version__ = "0.1.0"

_HOME = {
    "Chip": "sim.hw.chip",
    "Graph": "sim.graph.graph",
    "Program": "sim.program",
    "Report": "sim.report.report",
    "Space": "sim.explore.space",
    "Study": "sim.explore.study",
    "Timeline": "sim.timeline",
    "bound": "sim.pipeline",
    "load_chip": "sim.hw.chip",
    "load_model": "sim.graph.load",
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
    return sorted({*globals(), *_HOME})
