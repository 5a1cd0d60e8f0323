"""A table as LaTeX or Markdown, and a run's figures as CSV."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vinet_bench.report import paper
from vinet_bench.report.comparison import Comparison
from vinet_bench.report.difference import Difference, Measured
from vinet_bench.report.figures import PlanRow
from vinet_bench.report.layout import Figure, Layout
from vinet_bench.report.table import Sheet, Table
from vinet_bench.report.uncertainty import Uncertainty

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "≥": r"$\geq$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "≤": r"$\leq$",
    '"': "''",
} | {mark: f"\\{mark}" for mark in "{}_%&#$"}
_MARKDOWN = {mark: f"\\{mark}" for mark in "\\`*_|~$#"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def tex(text: str) -> str:
    r"""Any text as LaTeX.

    >>> print(tex("a_b&c%"))
    a\_b\&c\%
    """
    escaped = "".join(_TEX.get(mark, mark) for mark in " ".join(text.split()))
    negative = re.sub(r"(?<![\w.)-])-(?=\d)", "$-$", escaped)
    return f"{{}}{negative}" if negative[:1] in ("[", "*") else negative


def markdown(text: str) -> str:
    r"""Any text as GitHub's Markdown.

    >>> print(markdown("a_b|c"))
    a\_b\|c
    """
    escaped = "".join(_MARKDOWN.get(mark, mark) for mark in " ".join(text.split()))
    return escaped.replace("](", "]\\(")


_ESCAPES = {"tex": tex, "md": markdown}


@cache
def _environment(ending: str) -> Environment:
    """Templates with << >> and <% %>, since LaTeX is full of braces; all output is escaped."""
    escape = _ESCAPES[ending]

    def finalize(value: Any) -> str:
        return str(value) if isinstance(value, Markup) else escape(str(value))

    return Environment(
        loader=PackageLoader("vinet_bench.report"),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
        undefined=StrictUndefined,
        finalize=finalize,
        keep_trailing_newline=True,
    )


def _heads(table: Sheet) -> list[list[str]]:
    """The headings on two lines, so that columns are no wider than their figures."""
    pairs = [_halves(column.heading) for column in table.columns]
    lines = [["", *(top for top, _ in pairs)], [table.first, *(low for _, low in pairs)]]
    return lines if any(lines[0]) else lines[1:]


def _halves(heading: str) -> tuple[str, str]:
    """The heading's words on two lines; % stays with its word.

    >>> _halves("Masks alone %"), _halves("Drop at equal budget"), _halves("Reserved %")
    (('Masks', 'alone %'), ('Drop at', 'equal budget'), ('', 'Reserved %'))
    """
    words = heading.replace(" %", "\0%").split(" ")
    half = len(words) // 2
    top, low = (" ".join(part).replace("\0", " ") for part in (words[:half], words[half:]))
    return top, low


def to_tex(table: Sheet) -> str:
    """A table environment with booktabs, to be read by \\input."""
    template = _environment("tex").get_template("table.tex")
    return template.render(table=table, heads=_heads(table))


def _grid(lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """Escaped cells of one width a column, with the line that Markdown wants under the first."""
    cells = [[markdown(cell) for cell in line] for line in lines]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    rule = [("-" * w if i == 0 else "-" * (w - 1) + ":") for i, w in enumerate(widths)]
    padded = [
        [
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        for line in cells
    ]
    return [padded[0], rule, *padded[1:]]


def to_markdown(table: Sheet) -> str:
    """The table, its notes, and the paper's own figures in a table of their own."""
    lines: list[list[str]] = [[table.first, *(column.heading for column in table.columns)]]
    for _, rows in table.blocks():
        lines += [[row.title, *row.cells] for row in rows]
    template = _environment("md").get_template("table.md")
    return template.render(table=table, grid=_grid(lines), paper=_papers(table.name))


def _papers(table: str) -> dict[str, Any] | None:
    """The paper's own table, if it has one."""
    if table not in paper.TABLES:
        return None
    name, headings, values = paper.TABLES[table]
    beside = {"title": paper.TITLE, "name": name, "source": paper.SOURCE}
    return beside | {"grid": _grid([headings, *values])}


def _number(value: float | None) -> str:
    return "" if value is None else f"{round(value, 6) + 0.0:.6f}"


def _line(layout: Layout, uncertainty: Uncertainty, row: PlanRow) -> dict[str, str]:
    figures = uncertainty.figures
    line = {"method": row["name"], "kind": row["kind"]}
    seeds: set[int] = set()
    for figure in layout.figures:
        seeds |= set(figures.values(row, figure))
        found = figures.estimate(row, figure)
        low, high = uncertainty.interval(row, figure) or (None, None)
        line[figure.key] = _number(found.mean if found else None)
        line[f"{figure.key}_ci"] = _number(found.half if found else None)
        line[f"{figure.key}_low"], line[f"{figure.key}_high"] = _number(low), _number(high)
        for name, compared in zip(("vinet", "best"), uncertainty.comparisons(figure), strict=True):
            if figure.better:
                p = compared.p.get(row["name"]) if compared else None
                line[f"{figure.key}_p_{name}"] = _number(p)
    line["seeds"] = " ".join(map(str, sorted(seeds)))
    line["pictures"] = str(figures.pictures(row) or "")
    line["error"] = "; ".join(f"{f.where} seed {f.seed}: {f.reason}" for f in figures.failures(row))
    return line


def _columns(figure: Figure) -> list[str]:
    tests = ("_p_vinet", "_p_best") if figure.better else ()
    return [figure.key + ending for ending in ("", "_ci", "_low", "_high", *tests)]


def to_csv(table: Table) -> str:
    """One line a row, shares (not percent), means over seeds (with cross-validation over pictures).

    _ci: half width of the t interval over seeds; _low, _high: 95 % interval over patients and
    seeds; _p_vinet, _p_best: adjusted p of the difference.
    """
    layout, uncertainty = table.layout, table.uncertainty
    keys = [column for figure in layout.figures for column in _columns(figure)]
    columns = ["method", "kind", "seeds", "pictures", *keys, "error"]
    return _csv(columns, (_line(layout, uncertainty, row) for row in uncertainty.rows))


def _csv(columns: Sequence[str], lines: Iterable[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


_SIDES = (("a", "a_low", "a_high"), ("b", "b_low", "b_high"), ("difference", "low", "high"))


def differences_to_csv(comparison: Comparison) -> str:
    """One line a row and figure, shares (not percent), means over seeds with the ends of their 95 %
    intervals. paired: yes if the interval is of scores subtracted picture by picture."""
    columns = ["table", "method", "figure", *(name for side in _SIDES for name in side), "paired"]
    found = comparison.differences
    return _csv(columns, (_difference_line(comparison.layout.name, d) for d in found))


def _difference_line(table: str, difference: Difference) -> dict[str, str]:
    name, figure = difference.place
    line = {"table": table, "method": name, "figure": figure}
    measured: tuple[Measured | None, ...] = (difference.a, difference.b, difference.apart)
    for columns, found in zip(_SIDES, measured, strict=True):
        ends = found.interval if found and found.interval else (None, None)
        values = (found.mean if found else None, *ends)
        line |= dict(zip(columns, map(_number, values), strict=True))
    return line | {"paired": ("yes" if difference.paired else "no") if difference.apart else ""}
