"""The command, run in a test's own process."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from vinet_bench import cli


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


class Command:
    """Runs the command in this process, in an empty folder."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "GITHUB_ACTIONS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(folder)

    def __call__(self, *arguments: str) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["vinet-bench", *arguments])
        code: int | str | None = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code
        assert isinstance(code, int)
        return Ended(code, *self._capsys.readouterr())


def assert_one_line(ended: Ended, *words: str) -> None:
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("vinet-bench: ")
    assert ended.err.count("\n") == 1
    assert ended.err.endswith("\n")
    assert "\x1b" not in ended.err
    for word in words:
        assert word in ended.err
