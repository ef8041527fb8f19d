import pytest
import torch as th


@pytest.fixture(autouse=True)
def single_thread():
    """Small networks run up to eight times slower with more threads."""
    th.set_num_threads(1)
