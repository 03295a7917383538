"""Reads an ONNX file into a Graph.

Only what decides the work is kept: shapes, number formats, weights. Symbolic dimensions get numbers, arithmetic
on constants and shapes is done here, local functions are inlined. Whatever cannot be understood is an InputError
that lists every complaint with its node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import onnx
from sim.errors import Diagnostic, InputError, did_you_mean
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.onnx_arrays import ARRAYS
from sim.graph.onnx_constants import can_fold, fold
from sim.graph.onnx_functions import FUNCTIONS
from sim.graph.onnx_layers import LAYERS
from sim.graph.onnx_node import DTYPES, Array, Handler, Importer, Node, Unsupported
from sim.graph.onnx_recurrent import RECURRENT
