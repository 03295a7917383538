"""Figures of reports. They read numbers and draw them on Axes; nothing here simulates, and nothing calls show."""

from sim.plot.breakdown import plot_time_energy
from sim.plot.roofline import plot_roofline

__all__ = ["plot_roofline", "plot_time_energy"]
