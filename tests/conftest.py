import os

# Before torch looks for one: small networks are faster on the CPU, and the tests compare with tensors there
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import pytest
import torch as th


@pytest.fixture(autouse=True)
def single_thread():
    """Small networks run up to eight times slower with more threads."""
    th.set_num_threads(1)
