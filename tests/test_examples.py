"""The examples do what they say. Minutes each, so marked slow."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_train_dspg(tmp_path):
    command = [sys.executable, str(EXAMPLES / "1_train_dspg.py")]
    output = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    # A random policy has about -1200
    assert float(re.search(r"Return (\S+) \+-", output).group(1)) > -300
    assert (tmp_path / "dspg_pendulum.zip").is_file()
