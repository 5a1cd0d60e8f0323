"""How long the page of a large run takes, how large it is, and how smoothly it scrolls.

    python -m benchmarks.report [--methods 20] [--seeds 10] [--pictures 600] [--rounds 3]

The run is invented (tests/synthetic.py): eight protocols, scores of every picture. Goals: under
20 s, under 15 MB; while it scrolls in Chromium, where there is one, no frame longer than 50 ms.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from tests.synthetic import a_big_run
from vinet_bench.report import write_report

# Scrolls from end to end in two seconds, and gives the milliseconds between two frames.
SCROLL = """() => new Promise((done) => {
  const frames = [], start = performance.now(), height = document.documentElement.scrollHeight;
  let last = start;
  const step = (now) => {
    frames.push(now - last);
    last = now;
    scrollTo(0, height * Math.min(1, (now - start) / 2000));
    now - start < 2000 ? requestAnimationFrame(step) : done(frames.slice(1));
  };
  requestAnimationFrame(step);
})"""


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--methods", type=int, default=20)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--pictures", type=int, default=600)
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = [f"Method {i}" for i in range(asked.methods)]
        run = a_big_run(Path(folder), names, asked.seeds, asked.pictures)
        for _ in range(asked.rounds):
            start = time.perf_counter()
            (page,) = write_report(run, formats=["html"])
            seconds = time.perf_counter() - start
            print(f"page: {seconds:.1f} s, {page.stat().st_size / 1e6:.1f} MB")
        chromium = shutil.which("chromium")
        print(_scrolled(page, chromium) if chromium else "no Chromium: scrolling not measured")


def _scrolled(page: Path, chromium: str) -> str:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(page.as_uri())
        tab.locator("#cases canvas").first.wait_for()
        frames = sorted(tab.evaluate(SCROLL))
        browser.close()
    middle, longest = frames[len(frames) // 2], frames[-1]
    slow = sum(frame > 50 for frame in frames)
    return (
        f"scrolling: {len(frames)} frames in 2 s, median {middle:.0f} ms, longest {longest:.0f} ms,"
        f" {slow} longer than 50 ms"
    )


if __name__ == "__main__":
    main()
