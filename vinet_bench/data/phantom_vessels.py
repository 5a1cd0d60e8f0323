"""The phantom's vessels: distractors that fork, taper, or look like nodules when cut across.

Places and lengths are in widths of the picture (0..1, y down).
"""

from dataclasses import dataclass

import numpy as np

from vinet_bench.data.phantom_shapes import SCANNER_BLUR, Floats, smoothstep


@dataclass(frozen=True)
class Strokes:
    """Vessels as round Gaussian dots, (K,) each: y, x, sigma (widths) and strength."""

    y: Floats
    x: Floats
    sigma: Floats
    strength: Floats


def draw_strokes(strokes: Strokes, rows: Floats, columns: Floats) -> Floats:
    """How much of each pixel is vessel. K dots, (H,), (W,) -> (H, W) in 0..1.

    A round Gaussian is a product of two profiles, so one matrix product draws all dots.
    """
    narrowness = (-0.5 / strokes.sigma**2)[:, None]
    down = np.exp(narrowness * (rows - strokes.y[:, None]) ** 2) * strokes.strength[:, None]
    across = np.exp(narrowness * (columns - strokes.x[:, None]) ** 2)
    amount: Floats = 1 - np.exp(-(down.T @ across))
    return amount


@dataclass(frozen=True)
class Branches:
    """Bent tapering tubes, (B,) each: start, heading (rad), bend (rad), length, sigma, strength."""

    y: Floats
    x: Floats
    heading: Floats
    bend: Floats
    length: Floats
    sigma: Floats
    strength: Floats

    def trace(self, points: int, taper: float) -> tuple[Strokes, Floats]:
        """The tubes as dots, and the headings there. -> Strokes of (B * points,), (B, points)."""
        along = np.linspace(0, 1, points, dtype=np.float32)
        heading = self.heading[:, None] + self.bend[:, None] * along
        spacing = self.length[:, None] / points
        y = self.y[:, None] + np.cumsum(np.sin(heading) * spacing, axis=1)
        x = self.x[:, None] + np.cumsum(np.cos(heading) * spacing, axis=1)
        true = self.sigma[:, None] * (1 - taper * along)
        seen = np.hypot(true, np.float32(SCANNER_BLUR))
        # The blur spreads a thin tube's density, so it looks fainter, not only wider.
        fading_in = smoothstep(8 * along)
        strength = self.strength[:, None] * fading_in * spacing * true / seen**2
        return Strokes(y.ravel(), x.ravel(), seen.ravel(), strength.ravel()), heading


def vessels(random: np.random.Generator) -> Strokes:
    """Two forking trees, scattered thin twigs, and vessels cut across, which look like nodules."""
    trunks = _trunks(random)
    trunk, headings = trunks.trace(44, 0.6)
    forks = _forks(trunk, headings, trunks, random)
    fork, _ = forks.trace(24, 0.7)
    twig, _ = _twigs(random).trace(9, 0.6)
    dots = _dots(random)
    parts = (trunk, fork, twig, dots)
    return Strokes(
        y=np.concatenate([part.y for part in parts]),
        x=np.concatenate([part.x for part in parts]),
        sigma=np.concatenate([part.sigma for part in parts]),
        strength=np.concatenate([part.strength for part in parts]),
    )


def _trunks(random: np.random.Generator) -> Branches:
    """Two vessels, each of which may be absent."""
    present = random.random(2) < 0.6
    y, x = random.uniform(-0.05, 1.05, (2, 2)).astype(np.float32)
    return Branches(
        y=y,
        x=x,
        heading=random.uniform(-np.pi, np.pi, 2).astype(np.float32),
        bend=random.normal(0, 0.5, 2).astype(np.float32),
        length=random.uniform(0.4, 0.8, 2).astype(np.float32),
        sigma=random.uniform(0.008, 0.02, 2).astype(np.float32),
        strength=(present * random.uniform(0.5, 1, 2)).astype(np.float32),
    )


def _forks(
    trunk: Strokes, headings: Floats, trunks: Branches, random: np.random.Generator
) -> Branches:
    """Three side branches of each trunk. trunk (2 * points,), headings (2, points) -> 6."""
    owner = np.repeat([0, 1], 3)
    at = random.integers(6, headings.shape[1], 6)
    flat = owner * headings.shape[1] + at
    turn = random.uniform(0.4, 1.0, 6) * random.choice([-1, 1], 6)
    return Branches(
        y=trunk.y[flat],
        x=trunk.x[flat],
        heading=(headings[owner, at] + turn).astype(np.float32),
        bend=random.normal(0, 0.5, 6).astype(np.float32),
        length=random.uniform(0.12, 0.35, 6).astype(np.float32),
        sigma=0.6 * trunk.sigma[flat],
        strength=0.9 * trunks.strength[owner],
    )


def _twigs(random: np.random.Generator, count: int = 26) -> Branches:
    """Short faint pieces of thin vessels."""
    y, x = random.random((2, count)).astype(np.float32)
    return Branches(
        y=y,
        x=x,
        heading=random.uniform(-np.pi, np.pi, count).astype(np.float32),
        bend=random.normal(0, 0.5, count).astype(np.float32),
        length=random.uniform(0.02, 0.16, count).astype(np.float32),
        sigma=random.uniform(0.002, 0.007, count).astype(np.float32),
        strength=(0.1 + random.random(count) ** 2).astype(np.float32),
    )


def _dots(random: np.random.Generator, count: int = 7) -> Strokes:
    """Vessels cut across."""
    y, x, size, strength = random.random((4, count)).astype(np.float32)
    return Strokes(y, x, np.float32(0.009) + np.float32(0.011) * size**2, 0.3 + 1.2 * strength)
