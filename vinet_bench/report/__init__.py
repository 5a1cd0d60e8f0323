"""Records in; tables as LaTeX, CSV and Markdown, and their audit, out. Never imports torch."""

from vinet_bench.report.audit import Finding
from vinet_bench.report.comparison import Comparison, compare
from vinet_bench.report.curves import Curve, curves
from vinet_bench.report.table import Column, Row, Sheet, Table
from vinet_bench.report.tables import audit_run, tables, value_shares
from vinet_bench.report.write import (
    FORMATS,
    TEXTS,
    newest_run,
    write_comparison,
    write_report,
)

__all__ = [
    "FORMATS",
    "TEXTS",
    "Column",
    "Comparison",
    "Curve",
    "Finding",
    "Row",
    "Sheet",
    "Table",
    "audit_run",
    "compare",
    "curves",
    "newest_run",
    "tables",
    "value_shares",
    "write_comparison",
    "write_report",
]
