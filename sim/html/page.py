"""The frame of all pages: styles, plotly.js, data and scripts in one file that loads nothing else."""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any


def page(title: str, subtitle: str, body: str, data: Mapping[str, Any], script: str) -> str:
    """A whole HTML document. `data` is given to `script` (a file of sim/html/assets); both it and plotly.js are
    compressed, which makes plotly.js 2 MB instead of 5. Raises ValueError for data that JSON cannot hold."""
    packed = _packed(json.dumps(data, allow_nan=False, separators=(",", ":")).encode())
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
{_asset("page.css")}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p class="quiet">{html.escape(subtitle)}</p>
<p id="problem" class="warning" hidden></p>
{body}
<script id="data" type="text/plain">{packed}</script>
<script id="plotly" type="text/plain">{_plotly()}</script>
<script>
{_asset("common.js")}
{_asset(script)}</script>
</body>
</html>
"""


def plain(value: Any) -> Any:
    """What JSON can hold: None for what is not finite, plain numbers for NumPy's."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _packed(content: bytes) -> str:
    """The same bytes for the same content: no time inside."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return _packed(get_plotlyjs().encode())


def _asset(name: str) -> str:
    return (resources.files("sim.html") / "assets" / name).read_text(encoding="utf-8")
