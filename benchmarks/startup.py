"""How long the command takes until it answers, beside an empty Python."""

import subprocess
import sys

from benchmarks.turns import Ratio, Row, Work, in_turn

COMMAND = ("-c", "from vinet_bench.cli import main; main()")


def startup(rounds: int) -> list[Ratio]:
    """The goal is in seconds, not a ratio: so long a user waits."""
    return [
        _start("vinet-bench --help (seconds)", 0.5, "--help", rounds=rounds),
        _start("vinet-bench list methods (seconds)", 3.0, "list", "methods", rounds=rounds),
    ]


def _start(name: str, goal: float, *words: str, rounds: int) -> Ratio:
    ours, empty = in_turn(_python(*COMMAND, *words), _python("-c", "pass"), rounds)
    return Ratio(name, goal, "lower", ours, ours, empty)


def _python(*words: str) -> Work:
    def start() -> None:
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)

    return start


BENCHMARKS = (Row("startup", "--help in 0.5 s, list methods in 3 s", startup),)
