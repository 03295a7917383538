"""Figures of reports and studies: they draw numbers on Axes; nothing here simulates, and nothing calls show."""

from sim.plot.activity import plot_power, plot_utilization
from sim.plot.breakdown import plot_time_energy
from sim.plot.compare import plot_compare
from sim.plot.energy import plot_energy
from sim.plot.heatmap import plot_heatmap
from sim.plot.parallel import plot_parallel
from sim.plot.pareto import plot_pareto
from sim.plot.roofline import plot_roofline
from sim.plot.scatter import plot_predicted_measured
from sim.plot.sensitivity import plot_sensitivity
from sim.plot.timeline import plot_timeline
from sim.plot.traffic import plot_traffic

__all__ = [
    "plot_compare",
    "plot_energy",
    "plot_heatmap",
    "plot_parallel",
    "plot_pareto",
    "plot_power",
    "plot_predicted_measured",
    "plot_roofline",
    "plot_sensitivity",
    "plot_time_energy",
    "plot_timeline",
    "plot_traffic",
    "plot_utilization",
]
