"""The random programs are the engine tests', the operator graphs the mapping tests'."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("engine", "mapping")]
