"""In what two plans differ."""

from collections.abc import Iterator, Mapping, Set
from typing import Any

from vinet_bench.report.layout import ABSENT

_OF_A_PLAN = ("preset", "threshold", "precision", "device", "deterministic", "checkpoint")
_OF_A_ROW = ("explains", "scaling", "variant")


def changed_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """'vinet.alpha: 2 | 0.25' for each setting that differs; seeds and data are told elsewhere.

    >>> changed_settings({"settings": {"vinet": {"alpha": 2.0}}, "preset": "quick"},
    ...                  {"settings": {"vinet": {"alpha": 0.25}}, "preset": "quick"})
    ['vinet.alpha: 2 | 0.25']
    """
    titles = [{row["title"] for row in plan.get("rows", [])} for plan in (a, b)]
    one, other = (dict(_settings(plan, titles[0] & titles[1])) for plan in (a, b))
    return [
        f"{key}: {one.get(key, ABSENT)} | {other.get(key, ABSENT)}"
        for key in dict.fromkeys([*one, *other])
        if one.get(key, ABSENT) != other.get(key, ABSENT)
    ]


def _settings(plan: Mapping[str, Any], shared: Set[str]) -> Iterator[tuple[str, str]]:
    """Every setting by the name that --set knows, then those of shared rows, then versions."""
    yield from _flat({key: plan[key] for key in _OF_A_PLAN if key in plan})
    yield from _flat(plan.get("settings", {}))
    for row in (row for row in plan.get("rows", []) if row["title"] in shared):
        yield from ((f"{row['title']} {key}", _word(row[key])) for key in _OF_A_ROW if row.get(key))
    versions = plan.get("versions", {})
    yield from ((name, str(versions[name])) for name in sorted(versions) if name != "vinet-bench")


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", _word(value)


def _word(value: Any) -> str:
    """A number as it is typed (JSON keeps 2 and 2.0 apart); nothing, as what is not there."""
    if value is None or value == "":
        return ABSENT
    return f"{value:g}" if isinstance(value, float) else str(value)
