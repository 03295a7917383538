"""Figures of reports. They read numbers and draw them on Axes; nothing here simulates, and nothing calls show."""

from sim.plot.breakdown import plot_time_energy
from sim.plot.roofline import plot_roofline
from sim.plot.scatter import plot_predicted_measured

__all__ = ["plot_predicted_measured", "plot_roofline", "plot_time_energy"]
