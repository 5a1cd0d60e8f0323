"""Fuzzes the readers of files from strangers with atheris, from the seeds in tests/fuzz_seeds.

    pip install -e '.[fuzz]'
    python -m tools.fuzz all --seconds 60
    python -m tools.fuzz dicom --seconds 600

A reader may read an input or refuse it in one line; whatever else happens is a crash, and its
input is kept in fuzz_crashes/READER. Exit code 1 if there was one.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.fuzz_readers import Bench, Reader

CRASHES = Path("fuzz_crashes")
LARGEST_MIB = 3000  # of memory: torch and ITK alone take 600
SLOWEST_S = 20
GRACE_S = 60  # for imports and for the end
ROUND_S = 120  # a process of atheris grows with every input, faster where these are large


def main() -> None:
    """Fuzzes each named reader in a process of its own, and prints what came out."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("reader", help="a reader's name, or all")
    options.add_argument("--seconds", type=int, default=60, help="for each reader")
    options.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.inside is not None:
        _fuzz(asked.reader, asked.inside, asked.seconds)
        return
    from tools.fuzz_readers import READERS

    names = list(READERS) if asked.reader == "all" else [asked.reader]
    if not set(names) <= set(READERS):
        sys.exit(f"unknown reader {asked.reader}: use all, {', '.join(READERS)}")
    crashed = [_fuzzed(name, asked.seconds) for name in names]
    sys.exit(1 if any(crashed) else 0)


def _fuzzed(name: str, seconds: int) -> bool:
    """Runs one reader's processes, one after another; whether one crashed."""
    from tools.fuzz_readers import READERS

    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        folder = Path(place)
        _plant(READERS[name], folder / "corpus")
        for begun in range(0, seconds, ROUND_S):
            code = _round(name, folder, min(ROUND_S, seconds - begun))
            if code != 0:
                break
        return _told(name, folder, code)


def _plant(reader: "Reader", corpus: Path) -> None:
    corpus.mkdir()
    for place, seed in enumerate(reader.mutated):
        (corpus / str(place)).write_bytes(bytes([place]) + reader.seeds[seed])


def _round(name: str, folder: Path, seconds: int) -> int:
    """A process that goes on with the corpus of those before it; its exit code."""
    words = [sys.executable, "-m", "tools.fuzz", name]
    words += ["--seconds", str(seconds), "--inside", str(folder)]
    with (folder / "log").open("wb") as log:
        try:
            done = subprocess.run(
                words, stdout=log, stderr=log, timeout=seconds + GRACE_S, check=False
            )
        except subprocess.TimeoutExpired:
            return 124
    return done.returncode


def _told(name: str, folder: Path, code: int) -> bool:
    """Prints a reader's line and keeps what crashed it."""
    counts = _counts(folder)
    found = [p for p in sorted(folder.iterdir()) if p.name.startswith(("crash-", "native-"))]
    for path in found:
        (CRASHES / name).mkdir(parents=True, exist_ok=True)
        (CRASHES / name / path.name).write_bytes(path.read_bytes())
    crashes = sum(path.suffix != ".txt" for path in found)
    if code != 0 and (folder / "bench").exists():  # a library crashed or hung: its last input
        shutil.copytree(folder / "bench", CRASHES / name / "last", dirs_exist_ok=True)
        crashes += 1
    print(f"{name}: {counts['tried']} inputs, {counts['refused']} refused, {crashes} crashes")
    if code != 0 or not counts["tried"]:
        print((folder / "log").read_text(errors="replace")[-1500:])
    return bool(found) or code != 0


def _counts(folder: Path) -> dict[str, int]:
    """Of inputs, by all rounds so far."""
    noted = folder / "counts.json"
    return json.loads(noted.read_text()) if noted.exists() else {"tried": 0, "refused": 0}


def _fuzz(name: str, folder: Path, seconds: int) -> None:
    """The process that fuzzes one reader; atheris ends it."""
    try:
        import atheris
    except ImportError:
        sys.exit("fuzzing needs atheris: pip install 'vinet-bench[fuzz]'")
    with atheris.instrument_imports(include=["vinet_bench"]):
        from tools.fuzz_readers import READERS, Bench
    reader = READERS[name]
    trial = _Trial(reader, Bench(reader, folder / "bench"), folder)
    limits = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_S}", f"-rss_limit_mb={LARGEST_MIB}"]
    places = [f"-artifact_prefix={folder}/native-", str(folder / "corpus")]
    atheris.Setup([sys.argv[0], *limits, "-max_len=65536", *places], trial)
    atheris.Fuzz()


class _Trial:
    """Tries inputs; keeps one of each kind that is neither read nor refused."""

    def __init__(self, reader: "Reader", bench: "Bench", folder: Path) -> None:
        self._files, self._bench, self._folder = reader.mutated, bench, folder
        self._counts = _counts(folder)
        self._noted = 0.0

    def __call__(self, data: bytes) -> None:
        """The first byte chooses the file, the others are its content."""
        if not data:
            return
        self._counts["tried"] += 1
        try:
            file = self._files[data[0] % len(self._files)]
            self._counts["refused"] += self._bench.refusal(file, data[1:]) is not None
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-1:])
            kind = hashlib.sha256(f"{type(error)}{where}".encode()).hexdigest()[:12]
            if not (self._folder / f"crash-{kind}").exists():
                (self._folder / f"crash-{kind}").write_bytes(data)
                (self._folder / f"crash-{kind}.txt").write_text(traceback.format_exc())
        if time.monotonic() - self._noted > 0.5:
            self._noted = time.monotonic()
            (self._folder / "counts.json").write_text(json.dumps(self._counts))


if __name__ == "__main__":
    main()
