"""Fixtures of the forecasting tests."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """One thread for matrix products, as a study trains; on a tiny model more only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
