"""Run Python as a user does: a new interpreter is the only place where the startup file matters."""

import os
import subprocess
import sys
from pathlib import Path


def run_python(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """
    Run the installed package, not the checkout: outside of it and without the ``PYTHONPATH`` of the tests.

    :param args: Arguments of ``python``
    :param cwd: Working directory
    :param env: Additional environment variables
    :return: The finished process
    """
    inherited = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SB3_MAXENT_ZOO", "PYTHONWARNINGS")
    }
    # benchmark calls the first ``python`` of the path
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    small = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "SDL_VIDEODRIVER": "dummy", "PATH": path}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env={**inherited, **small, **env}, capture_output=True, text=True, timeout=600
    )
