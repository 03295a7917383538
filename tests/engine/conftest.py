"""The random operators are the graph tests', the random graphs the pass tests', the ONNX models the graph tests'."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("graph", "passes")]
