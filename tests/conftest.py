import os
import sys

# Before torch looks for one: small networks are faster on the CPU, and the tests compare with tensors there
if "gpu" not in sys.argv:
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Where git does not look
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", ".pytest_cache/hypothesis")

import pytest
import torch as th
from hypothesis import HealthCheck, Phase, settings

COMMON = {"deadline": None, "database": None, "suppress_health_check": [*HealthCheck]}
# Always the same
settings.register_profile("short", derandomize=True, max_examples=80, **COMMON)
# Something new each time, in ten minutes; to make a failure smaller could take as long as to find it
settings.register_profile("long", max_examples=3000, phases=[Phase.generate], print_blob=True, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))


@pytest.fixture(autouse=True)
def single_thread():
    """Small networks run up to eight times slower with more threads."""
    th.set_num_threads(1)
