"""
What compilation needs of PyTorch beyond its public interface may be missing: then the update stays eager, with one warning.

Each case runs in a new process, because a name is looked up once.
"""

import os
import subprocess
import sys

import pytest

TRAINING = """
import warnings
from sb3_maxent import DSPG

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    arguments = {"learning_starts": 10, "batch_size": 8, "policy_kwargs": {"net_arch": [8]}, "gradient_steps": 1}
    model = DSPG("MlpPolicy", "Pendulum-v1", compile=True, **arguments)
    model.learn(20)
caught = [str(warning.message) for warning in caught if "compile=True" in str(warning.message)]
assert len(caught) == EXPECTED, caught
assert all("compile=True has no effect, the update could not be compiled" in message for message in caught), caught
assert model._n_updates == 10, model._n_updates
"""
# Statements that take a name away before it is imported
MISSING = {
    "nothing": "",
    "custom_graph_pass": "import sys; sys.modules['torch._inductor.custom_graph_pass'] = None",
    "CustomGraphPass": "import torch._inductor.custom_graph_pass as module; del module.CustomGraphPass",
    "get_hash_for_files": "import torch._inductor.custom_graph_pass as module; del module.get_hash_for_files",
    "_functorch.config": "import sys; sys.modules['torch._functorch.config'] = None",
    "options of Inductor": "import torch; del torch._inductor.config._config['realize_opcount_threshold']",
    "custom_post_pass": "import torch; del torch._inductor.config._config['post_grad_custom_post_pass']",
    "_linear_pointwise": "import torch; torch.ops.mkldnn = type('Empty', (), {})()",
    "register_fake": "import torch; del torch.library.register_fake",
    # Found missing at the first update only
    "compile_fx": "import torch._inductor.compile_fx as module; del module.compile_fx",
}


def run(script: str, **environment: str) -> None:
    environment = {**os.environ, **environment}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr


# The others are missed at the same times: before anything is compiled, or at the first update
QUICK = ("_linear_pointwise", "compile_fx")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MISSING])
def test_without_a_private_name_it_warns_once_and_stays_eager(name):
    expected = int(name != "nothing")
    run(f"import torch._inductor.config\n{MISSING[name]}\nEXPECTED = {expected}\n{TRAINING}")


def test_without_a_compiler_it_warns_once_and_stays_eager(tmp_path):
    run(f"EXPECTED = 1\n{TRAINING}", CXX=str(tmp_path / "none"), TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))
