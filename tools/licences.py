"""Writes docs/licences.md: what each package that setup.cfg names is licensed under.

    python -m tools.licences

Reads what the installed packages say of themselves.
"""

import configparser
import re
from importlib.metadata import Distribution, PackageMetadata, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
_CLASSIFIER = "License :: OSI Approved :: "
_HEAD = """# Licences

What vinet-bench is built on, and under which licence, as each package says of itself. Written by
`python -m tools.licences`; vinet-bench itself is under the Apache License 2.0. None of these
packages is copied here: they are installed beside it.

| Package | Needed for | Licence |
|---|---|---|
"""


def named() -> dict[str, str]:
    """The packages of setup.cfg by what they are needed for: 'running', or the extras."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    groups = {"running": setup["options"]["install_requires"]}
    groups |= dict(setup["options.extras_require"])
    found: dict[str, list[str]] = {}
    for group, text in groups.items():
        for name in re.findall(r"^([A-Za-z][A-Za-z0-9._-]*)", text.strip(), flags=re.MULTILINE):
            found.setdefault(name, []).append(group)
    return {name: ", ".join(groups) for name, groups in found.items()}


def licence(package: str) -> str:
    """What an installed package says. Raises SystemExit if it is not installed."""
    try:
        installed = distribution(package)
    except PackageNotFoundError:
        raise SystemExit(f"{package} is not installed: pip install -e '.[dev,fuzz]'") from None
    told = installed.metadata
    classified = [
        text.removeprefix(_CLASSIFIER)
        for text in told.get_all("Classifier", [])
        if text.startswith(_CLASSIFIER)
    ]
    plain = _field(told, "License") or _text(installed)
    named = _field(told, "License-Expression") or "; ".join(classified)
    return named or plain.strip().split("\n")[0]


def _field(told: PackageMetadata, name: str) -> str:
    return told.get_all(name, [""])[0]


def _text(installed: Distribution) -> str:
    """The licence itself, whose first line is its title."""
    found = [path for path in installed.files or () if path.name.startswith("LICENSE")]
    return found[0].read_text() if found else "not said"


def main() -> None:
    """Writes the page."""
    rows = [f"| {name} | {why} | {licence(name)} |" for name, why in named().items()]
    PAGE.write_text(_HEAD + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
