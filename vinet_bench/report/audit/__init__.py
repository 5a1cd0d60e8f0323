"""How a run's figures were won: a line for each way in which they could mislead."""

from vinet_bench.report.audit.finding import Finding, Verdict
from vinet_bench.report.audit.material import Material
from vinet_bench.report.audit.of_data import data_findings
from vinet_bench.report.audit.of_maps import map_findings
from vinet_bench.report.audit.of_networks import network_findings
from vinet_bench.report.layout import layouts_of
from vinet_bench.stored_run import Run

__all__ = ["Finding", "Verdict", "audit"]


def audit(run: Run) -> list[Finding]:
    """Every finding of a run: of its data, then of each table that it has figures for."""
    facts = run.pictures()
    found: list[Finding] = []
    if facts:
        known = run.plan.get("data", {}).get("patients_known", True)
        found += data_findings(facts, known)
    for layout in layouts_of(run.plan):
        material = Material(run, layout)
        if material.figures:
            found += [*network_findings(material), *map_findings(material)]
    return found
