"""Figures of reports. They read numbers and draw them on Axes; nothing here simulates, and nothing calls show."""

from sim.plot.activity import plot_power, plot_utilization
from sim.plot.breakdown import plot_time_energy
from sim.plot.compare import plot_compare
from sim.plot.energy import plot_energy
from sim.plot.roofline import plot_roofline
from sim.plot.scatter import plot_predicted_measured
from sim.plot.timeline import plot_timeline
from sim.plot.traffic import plot_traffic

__all__ = [
    "plot_compare",
    "plot_energy",
    "plot_power",
    "plot_predicted_measured",
    "plot_roofline",
    "plot_time_energy",
    "plot_timeline",
    "plot_traffic",
    "plot_utilization",
]
