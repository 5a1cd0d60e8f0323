"""What is said of an error that nobody foresaw."""

import torch
from torch.nn import functional as F

from vinet_bench.errors import fault


def test_a_fault_is_placed_where_the_library_was_called() -> None:
    try:
        F.conv2d(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 3, 3))
    except RuntimeError as error:
        told = fault(error)
    assert told.startswith("RuntimeError: Calculated padded input size")
    assert told.endswith("(test_errors.py:11)")


def test_a_fault_that_says_nothing_has_its_kind() -> None:
    try:
        raise ValueError
    except ValueError as error:
        assert fault(error) == "ValueError: no reason given (test_errors.py:20)"
