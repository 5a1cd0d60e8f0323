"""What a table lacks, as notes: cells that failed, rows and seeds without records."""

from vinet_bench.report.context import Context, named_seeds
from vinet_bench.report.figures import Failure, PlanRow


def _failed_row(context: Context, row: PlanRow, failed: list[Failure]) -> str:
    """'CAM (masks alone; seed 1; the mean is of the other seeds)'."""
    where = ", ".join(dict.fromkeys(f.where for f in failed))
    lost = {f.seed for f in failed}
    there = any(
        context.figures.values(row, figure)
        for figure in context.layout.figures
        if any(f in failed for f in context.figures.failures(row, figure))
    )
    rest = "; the mean is of the other seeds" if there else ""
    return f"{row['title']} ({where}; {named_seeds(lost)}{rest})"


def cut(reason: str, longest: int = 300) -> str:
    """A long reason stands whole in the CSV file."""
    return reason if len(reason) <= longest else f"{reason[:longest]}…"


def failures(context: Context) -> list[str]:
    """Each reason with its number, and the rows that failed of it."""
    notes = []
    for reason, number in context.reasons.items():
        named = []
        for row in context.rows:
            failed = [f for f in context.figures.failures(row) if f.reason == reason]
            if failed:
                named.append(_failed_row(context, row, failed))
        notes.append(f"({number}) Failed: {', '.join(named)}: {cut(reason)}")
    return notes


def _gaps(context: Context, row: PlanRow) -> dict[tuple[int, ...], list[str]]:
    """Seeds that neither gave a figure nor failed, with the figures that lack them."""
    gaps: dict[tuple[int, ...], list[str]] = {}
    for figure in context.layout.figures:
        there = context.figures.values(row, figure)
        failed = {f.seed for f in context.figures.failures(row, figure)}
        lost = tuple(sorted(set(context.seeds) - set(there) - failed))
        if there and lost:
            gaps.setdefault(lost, []).append(figure.heading.removesuffix(" %"))
    return gaps


def _not_retrained(context: Context) -> list[str]:
    """Costly methods without a record."""
    rows = [row for row in context.rows if row.get("costly") and not context.figures.has(row)]
    return [row["title"] for row in rows]


def fewer_pictures(context: Context) -> list[str]:
    """Costly methods explain some test pictures only."""
    found = {row["title"]: context.figures.pictures(row) for row in context.rows}
    most = max(found.values(), default=0)
    costly = {row["title"] for row in context.rows if row.get("costly")}
    few = [(t, n) for t, n in found.items() if t in costly and 0 < n < most]
    if not few:
        return []
    named = ", ".join(title for title, _ in few)
    return [
        f"Costly, and so of {few[0][1]} of the {most} test pictures, the same for each: {named}."
    ]


def costly_rows(context: Context) -> list[str]:
    """Rows that a run leaves out unless it is asked for them."""
    gone = _not_retrained(context)
    words = f"Costly, and so left out unless --methods names them: {', '.join(gone)}."
    return [words] if gone else []


def missing_rows(context: Context) -> list[str]:
    """Rows that the plan names and the records lack."""
    gone = _not_retrained(context)
    titles = (row["title"] for row in context.rows if not context.figures.has(row))
    empty = [title for title in titles if title not in gone]
    return [f"No records (yet) for: {', '.join(empty)}."] if empty else []


def missing_seeds(context: Context) -> list[str]:
    """Seeds that the plan names and a row's records lack; the majority has no seed."""
    alike: dict[tuple[str, str], list[str]] = {}
    for row in context.rows:
        gaps = {} if row["name"] == "majority" else _gaps(context, row)
        for lost, headings in gaps.items():
            named = ", ".join(h for h in headings if h) or "figures of the CSV file"
            alike.setdefault((named_seeds(lost), named), []).append(row["title"])
    return [
        f"{', '.join(titles)}: {seeds} missing ({named});"
        " the figure is of the seeds that are there."
        for (seeds, named), titles in alike.items()
    ]


def unfinished(context: Context) -> list[str]:
    """All of a table that failed or is not there yet."""
    return [*failures(context), *missing_rows(context), *missing_seeds(context)]


def left_out(context: Context) -> list[str]:
    """Fills and networks that the records hold beside the table's own."""
    others = "; ".join(f"fill {fill}, network {net}" for fill, net in context.figures.left_out)
    return [f"In the records but not in this table: {others}."] if others else []
