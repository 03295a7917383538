"""Numbers and columns as a reader wants them: a unit on everything, three digits, nothing that wraps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sim.units import PS_PER_S, format_quantity

if TYPE_CHECKING:
    from rich.table import Table as RichTable

BAR = 24  # characters of a share of 100 %
GAP = 2  # between two columns of a table


def plain_table(headers: Iterable[str | None]) -> RichTable:
    """A table without lines; ">" before a header aligns right, "bar" is not shown."""
    from rich.table import Table as RichTable

    table = RichTable(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for header in headers:
        text = "" if header in (None, "bar") else str(header)
        right = text.startswith(">")
        table.add_column(text.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    return table


def fitted_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], least: Mapping[str, int], width: int
) -> RichTable:
    """A plain table at most `width` wide, as far as the columns named in `least` can give way: the widest of them
    first, down to the width given there. Numbers stand in full."""
    widths = [max(map(len, column)) for column in zip((h.removeprefix(">") for h in headers), *rows, strict=True)]
    floors = {at: least[header] for at, header in enumerate(headers) if header in least}
    room = width - GAP * (len(headers) - 1)
    while sum(widths) > room:
        widest = max((at for at in floors if widths[at] > floors[at]), key=lambda at: widths[at], default=None)
        if widest is None:
            break
        widths[widest] -= 1
    table = plain_table(headers)
    for row in rows:
        table.add_row(*map(cut_text, row, widths))
    return table


def bar(share: float, block: str) -> str:
    """A share of 0 to 1 as a bar of at most BAR characters `block`."""
    return block * round(share * BAR)


def cut_text(text: str, width: int) -> str:
    """Text of at most `width` characters, the middle left out: both ends of a name tell operators apart."""
    if len(text) <= width:
        return text
    head = (width - 2) // 2
    return f"{text[:head]}..{text[len(text) - (width - 2 - head) :]}"


def time_text(seconds: float) -> str:
    """Seconds in the unit that fits: 1.5e-6 as "1.5 us"."""
    return format_quantity(seconds, "time")


def ticks_text(ticks: int) -> str:
    """Picoseconds in the unit that fits."""
    return format_quantity(ticks / PS_PER_S, "time")


def size_text(size_bytes: float) -> str:
    """Bytes in KiB, MiB, ..."""
    return format_quantity(round(size_bytes), "size")


def percent_text(share: float) -> str:
    """0.123 as "12.3 %"."""
    return f"{100 * share:.1f} %"


def plain_text(value: float | None) -> str:
    """Three digits; "-" for what has no value."""
    return "-" if value is None else f"{value:.3g}"


def count_text(value: float) -> str:
    """1234567 as "1.23 M", 1234 as "1,234"."""
    if abs(value) < 10_000:
        return f"{value:,.4g}"
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.3g} {prefix}"
    return f"{value / 1000:.3g} k"


def dollars_text(amount_usd: float) -> str:
    """Three digits, and whole dollars from a hundred on."""
    return f"{amount_usd:,.0f} USD" if amount_usd >= 100 else f"{amount_usd:.3g} USD"
