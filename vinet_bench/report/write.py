"""Writes a run's tables, or what two have in common, and finds the newest run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vinet_bench.errors import UserError, unknown_name
from vinet_bench.report.comparison import Comparison, compare
from vinet_bench.report.curves import curves
from vinet_bench.report.render import differences_to_csv, to_csv, to_markdown, to_tex
from vinet_bench.report.table import Table
from vinet_bench.report.tables import tables
from vinet_bench.store import DATABASE
from vinet_bench.stored_run import Run, read_run
from vinet_bench.writing import replacing

TEXTS = ("tex", "csv", "md")
FORMATS = (*TEXTS, "html", "figures")
FIRST_RUN = "vinet-bench run all"
_PRINTERS = {"tex": to_tex, "md": to_markdown}


def _text(table: Table, ending: str) -> str:
    return to_csv(table) if ending == "csv" else _PRINTERS[ending](table)


def _compared_text(comparison: Comparison, ending: str) -> str:
    if ending == "csv":
        return differences_to_csv(comparison)
    texts = [_PRINTERS[ending](sheet).strip() for sheet in comparison.sheets]
    return "\n\n".join(texts) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose another folder with --out"
        ) from None


def write_report(
    run_folder: Path, out: Path | None = None, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Each table in each format, the page, and a PNG and a PDF of each table's figure, into `out`
    (the run's folder if None).

    Raises UserError for an unknown format, a run without records, or a folder that cannot be
    written.
    """
    _check(formats)
    run = read_run(run_folder)
    made = tables(run)
    if not made:
        raise UserError(f"{run_folder} has no records for a table yet: run it to its end first")
    texts = {f"{t.name}.{e}": _text(t, e) for t in made.values() for e in _texts(formats)}
    if "html" in formats:
        from vinet_bench.report.page import NAME, to_html  # matplotlib takes a second

        texts[NAME] = to_html(run, made)
    folder = run_folder if out is None else out
    written = _write_all(folder, texts)
    return [*written, *(_figures(run, made, folder) if "figures" in formats else [])]


def write_comparison(
    a: Path, b: Path | None, out: Path | None = None, formats: Sequence[str] = TEXTS
) -> tuple[list[Comparison], list[Path]]:
    """What two runs have in common, or a run and the paper (b: None), and the files with it: each
    table as text in each format, into `out` (the first run's folder if None).

    Raises UserError as `compare` and `write_report` do.
    """
    _check(formats)
    made = compare(a, b)
    texts = {f"{c.name}.{e}": _compared_text(c, e) for c in made for e in _texts(formats)}
    return made, _write_all(a if out is None else out, texts)


def _check(formats: Sequence[str]) -> None:
    for ending in formats:
        if ending not in FORMATS:
            raise unknown_name("format", ending, FORMATS)


def _texts(formats: Sequence[str]) -> list[str]:
    return [ending for ending in formats if ending in TEXTS]


def _write_all(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    for name, text in texts.items():
        _write(folder / name, text)
    return [folder / name for name in texts]


def _figures(run: Run, made: Mapping[str, Table], folder: Path) -> list[Path]:
    from vinet_bench.report.draw import curves_figure, save  # as above
    from vinet_bench.report.draw_rows import rows_figure

    drawn = {f"figure-{name}": rows_figure(table) for name, table in made.items()}
    if found := curves(run):
        drawn["figure-curves"] = curves_figure(found)
    return [path for name, figure in drawn.items() if figure for path in save(figure, folder, name)]


def newest_run(results: Path = Path("results")) -> Path:
    """The folder below `results` (or itself) whose database was modified last.

    Raises UserError with the command of a first run if there is none.
    """
    found = sorted(results.rglob(DATABASE)) if results.is_dir() else []
    if not found:
        raise UserError(f"no run below {results}: make one with `{FIRST_RUN}`")
    return max(found, key=_modified).parent


def _modified(database: Path) -> int:
    """A write ahead log is newer than the database that it belongs to."""
    beside = (database, database.with_name(f"{database.name}-wal"))
    return max(path.stat().st_mtime_ns for path in beside if path.exists())
