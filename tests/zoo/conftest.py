from collections.abc import Callable
from pathlib import Path

import pytest

# The least of RL Zoo that the integration relies on
SOURCES = {
    "__init__.py": "import rl_zoo3.utils\n",
    "utils.py": "ALGOS = {'sac': object}\n",
    "hyperparams_opt.py": "HYPERPARAMS_SAMPLER = {'sac': None}\nHYPERPARAMS_CONVERTER = {'sac': None}\n",
    "exp_manager.py": """
from pathlib import Path

class ExperimentManager:
    def __init__(self, algo, config=None):
        self.algo = algo
        self.config = config or str(Path(__file__).parent / f"hyperparams/{algo}.yml")
""",
}


@pytest.fixture
def fake_zoo(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a fake ``rl_zoo3`` and returns its folder, for ``PYTHONPATH``."""

    def write(file: str = "", old: str = "", new: str = "") -> str:
        """
        :param file: File to change, to play another version of RL Zoo
        :param old: Text in it
        :param new: What to write instead
        :return: The folder
        """
        package = tmp_path / "fake" / "rl_zoo3"
        package.mkdir(parents=True)
        for name, source in SOURCES.items():
            assert name != file or old in source
            (package / name).write_text(source.replace(old, new) if name == file else source)
        return str(package.parent)

    return write
