"""The code blocks of the README and the docs, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
UNMARKED = ("cluster.md", "performance.md")  # what cannot be run here carries no mark on them
FENCE = re.compile(
    r"(?:<!-- (?P<mark>not run|output of): (?P<reason>[^\n]+?) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LOOP = re.compile(r"for (\w+) in (\S+)")


@dataclass(frozen=True)
class Block:
    """A fenced block. mark: 'not run' or 'output of', with its reason, or ''."""

    page: Path
    line: int
    language: str
    text: str
    mark: str
    reason: str

    @property
    def place(self) -> str:
        """As a test's name."""
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """A page's fenced blocks in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start("language")) + 1,
            found["language"],
            found["text"],
            found["mark"] or ("not run" if page.name in UNMARKED else ""),
            found["reason"] or "",
        )
        for found in FENCE.finditer(text)
    ]


def every_block(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def python_of(page: Path) -> str:
    """A page's Python that can be run, as one program; lines keep their numbers in it."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python" and not block.mark:
            lines += [""] * (block.line - len(lines))
            lines += block.text.splitlines()
    return "\n".join(lines)


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block, in words; a loop's variable has its first value."""
    text = re.sub(r"(\\|(?<=&&))\n", " ", block.text)
    for variable, value in LOOP.findall(text):
        text = text.replace(f"${variable}", value)
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set(";&|"):
                yield from [command] if command else []
                command = []
            elif word != "do" or command:
                command.append(word)


def bench_arguments(command: list[str]) -> list[str] | None:
    """What follows vinet-bench in a command, or None."""
    for place, word in enumerate(command):
        if word == "vinet-bench" or word.endswith("/vinet-bench"):
            return command[place + 1 :]
    return None
