"""Where the command prints, and how it ends."""

import sys

from rich.console import Console

BAD_INPUT, FAILED_CELLS, BROKEN, INTERRUPTED = 2, 1, 1, 130

# A pipe has no width of its own: wide enough that no table is folded.
# Nothing that a user named ([x], :x:) is taken for markup.
out_console = Console(
    width=None if sys.stdout.isatty() else 160, markup=False, emoji=False, highlight=False
)
err_console = Console(stderr=True, soft_wrap=True, markup=False, emoji=False, highlight=False)
