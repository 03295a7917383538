"""The programs built by hand are the report tests', the graphs of one operator the mapper's."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("report", "mapping")]
