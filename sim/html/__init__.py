"""Self-contained HTML pages of runs and studies: one file, no network."""

from sim.html.run_page import run_page
from sim.html.study_page import study_page

__all__ = ["run_page", "study_page"]
