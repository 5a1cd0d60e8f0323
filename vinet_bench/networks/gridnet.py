"""GridNet (Fourure et al. 2017, arXiv 1707.07958), an importance network."""

from itertools import pairwise

from torch import Tensor, nn

from vinet_bench.networks.sizes import Padded, scaled

STREAMS = (16, 32, 64)  # channels of the rows, from full resolution to a quarter
DOWN, UP = 3, 3  # columns in which a row feeds the one below, then the one above


class GridNet(nn.Module):
    """Residual streams at three resolutions, joined by additions between the rows.

    X[i, j] = X[i, j-1] + residual(X[i, j-1]) + down(X[i-1, j]) in the first columns, and
    + up(X[i+1, j]) in the last ones. (B, 1, H, W) -> (B, 1, H, W), sides a multiple of 4.
    The paper's total dropout, a regulariser of its training, is left out.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        rows = [scaled(c, width) for c in STREAMS]
        self.first = nn.Conv2d(1, rows[0], 3, padding=1)
        down = [_Down(rows, rows[:1] if column == 0 else rows) for column in range(DOWN)]
        self.columns = nn.ModuleList([*down, *(_Up(rows) for _ in range(UP))])
        self.last = nn.Sequential(*_norm_relu(rows[0]), nn.Conv2d(rows[0], 1, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        streams = [self.first(images)]
        for column in self.columns:
            streams = column(streams)
        m0: Tensor = self.last(streams[0])
        return m0


class _Down(nn.Module):
    """A column from the top row to the bottom; `begun` are the rows that have a stream already."""

    def __init__(self, rows: list[int], begun: list[int]) -> None:
        super().__init__()
        self.along = nn.ModuleList(_unit(c, c) for c in begun)
        self.down = nn.ModuleList(_unit(a, b, 2) for a, b in pairwise(rows))

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        out = _along(streams, self.along)
        for row, down in enumerate(self.down, start=1):
            fed = down(out[row - 1])
            if row < len(out):
                out[row] = out[row] + fed
            else:
                out.append(fed)
        return out


class _Up(nn.Module):
    """A column from the bottom row to the top."""

    def __init__(self, rows: list[int]) -> None:
        super().__init__()
        self.along = nn.ModuleList(_unit(c, c) for c in rows)
        self.up = nn.ModuleList(_enlarge(b, a) for a, b in pairwise(rows))

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        out = _along(streams, self.along)
        for row, up in reversed(list(enumerate(self.up))):
            out[row] = out[row] + up(out[row + 1])
        return out


def _along(streams: list[Tensor], units: nn.ModuleList) -> list[Tensor]:
    return [x + unit(x) for x, unit in zip(streams, units, strict=True)]


def _norm_relu(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), nn.ReLU()


def _unit(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        *_norm_relu(before),
        nn.Conv2d(before, after, 3, stride, padding=1),
        *_norm_relu(after),
        nn.Conv2d(after, after, 3, padding=1),
    )


def _enlarge(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        *_norm_relu(before),
        # A kernel of twice the stride gives every pixel equally many taps.
        nn.ConvTranspose2d(before, after, 4, stride=2, padding=1),
        *_norm_relu(after),
        nn.Conv2d(after, after, 3, padding=1),
    )


def gridnet(width: float) -> nn.Module:
    """GridNet (Fourure et al. 2017): 3 resolutions x 6 columns, residual rows."""
    return Padded(GridNet(width), multiple=4)
