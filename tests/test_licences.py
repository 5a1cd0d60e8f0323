"""The page of licences names every package that setup.cfg does."""

import configparser
from pathlib import Path

import pytest

from tools.licences import PAGE, licence, named

SETUP = Path(__file__).resolve().parents[1] / "setup.cfg"


def rows() -> dict[str, str]:
    """The page's licences by package."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {name: found for name, _, found in cells if name != "Package"}


def test_every_requirement_stands_on_the_page_with_its_licence() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(SETUP, encoding="utf-8")
    wanted = setup["options"]["install_requires"].split()
    for extra in setup["options.extras_require"].values():
        wanted += [word for word in extra.split() if not word.startswith("%")]
    names = {requirement.split(">")[0] for requirement in wanted}
    assert "torch" in names
    assert rows().keys() == names == named().keys()
    assert not [name for name, found in rows().items() if found in ("", "not said")]


def test_a_licence_is_what_the_installed_package_says() -> None:
    assert licence("pytest").startswith("MIT")
    with pytest.raises(SystemExit, match="no-such-package is not installed"):
        licence("no-such-package")
