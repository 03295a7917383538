"""Kinds of figures by name: what each is drawn from, and how it becomes the bytes of a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.plot.activity import plot_power, plot_utilization
from sim.plot.breakdown import plot_time_energy
from sim.plot.compare import plot_compare
from sim.plot.energy import plot_energy
from sim.plot.floorplan import plot_floorplan
from sim.plot.roofline import plot_roofline
from sim.plot.timeline import plot_timeline
from sim.plot.traffic import plot_traffic
from sim.report.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _plot_die(report: Report) -> Axes:
    return plot_floorplan(report.area, title=str(report["chip"]))


RUN_KINDS: Mapping[str, Callable[..., Axes]] = {
    "breakdown": plot_time_energy,
    "roofline": plot_roofline,
    "energy": plot_energy,
    "timeline": plot_timeline,
    "utilisation": plot_utilization,
    "power": plot_power,
    "traffic": plot_traffic,
    "floorplan": _plot_die,
    "compare": plot_compare,
}
"""Drawn from one report; `energy` from one or more, `compare` from two or more."""
_OF_SEVERAL = {"energy", "compare"}
STUDY_KINDS = ("pareto", "parallel", "sensitivity", "heatmap")
"""Drawn from the table of a study."""
KINDS = (*RUN_KINDS, *STUDY_KINDS)
FORMATS = ("png", "svg", "pdf")
DPI = 200


def check_kind(kind: str, known: Sequence[str] = KINDS, of: str = "") -> None:
    """Raises InputError where `kind` is none of `known`; `of` says what it would be drawn from."""
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS) or f"one of {', '.join(KINDS)}"
        raise InputError(Diagnostic(f"unknown kind of figure '{kind}'", hint=hint))
    if kind not in known:
        raise InputError(Diagnostic(f"{kind} is no figure of {of}", hint=f"one of {', '.join(known)}"))


def plot_runs(kind: str, reports: Sequence[Report]) -> Axes:
    """The figure of one or several runs. Raises InputError where the kind does not apply to them."""
    check_kind(kind, tuple(RUN_KINDS), "a run")
    if kind in _OF_SEVERAL:
        return RUN_KINDS[kind](reports)
    if len(reports) != 1:
        hint = f"{' and '.join(sorted(_OF_SEVERAL))} take several"
        raise InputError(Diagnostic(f"{kind}: found {len(reports)} runs; expected one", hint=hint))
    return RUN_KINDS[kind](reports[0])


def figure_bytes(ax: Axes, file_format: str, dpi: int = DPI) -> bytes:
    """The figure that `ax` belongs to as the content of a file; the same figure gives the same bytes. Closes it."""
    import matplotlib
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    # Without versions and dates, and with fixed ids, the same figure is the same file.
    metadata: dict[str, Any] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }[file_format]
    stream = io.BytesIO()
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    with matplotlib.rc_context({"svg.hashsalt": "lepton", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(stream, format=file_format, dpi=dpi, metadata=metadata)
    pyplot.close(figure)
    return stream.getvalue()


def use_no_display() -> None:
    """Draw into memory: for the command line, before the first figure."""
    import matplotlib

    matplotlib.use("Agg")
