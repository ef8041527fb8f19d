import argparse
import copy
import importlib.metadata
import pickle
import pkgutil
import shutil
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
import yaml

from sb3_maxent import DSPG, zoo
from tests.zoo.interpreter import run_python

IMPORT_ZOO = "import rl_zoo3.utils, rl_zoo3.hyperparams_opt, rl_zoo3.exp_manager; "

# What a future version may change: name of the case, file, text, its replacement, module that the warning is about
FUTURE_ZOOS = [
    ("table renamed", "utils.py", "ALGOS", "ALGORITHMS", "rl_zoo3.utils"),
    ("table is not a dict", "utils.py", "{'sac': object}", "('sac',)", "rl_zoo3.utils"),
    ("no sampler table", "hyperparams_opt.py", "HYPERPARAMS_SAMPLER", "SAMPLERS", "rl_zoo3.hyperparams_opt"),
    ("no converter table", "hyperparams_opt.py", "HYPERPARAMS_CONVERTER", "CONVERTERS", "rl_zoo3.hyperparams_opt"),
    ("no manager", "exp_manager.py", "ExperimentManager", "Experiment", "rl_zoo3.exp_manager"),
    ("no config", "exp_manager.py", "config", "settings", "rl_zoo3.exp_manager"),
]


# A finder of another package, which asks all finders as the hook does
SECOND_FINDER = """
import sys

class Second:
    asked = []

    def find_spec(self, name, path=None, target=None):
        if name == "rl_zoo3.utils":
            self.asked.append(name)
            specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
            return next(filter(None, specs), None)

sys.second = Second()
sys.meta_path.insert({position}, sys.second)
"""


@pytest.fixture
def experiment_manager(tmp_path):
    zoo.register()
    from rl_zoo3.exp_manager import ExperimentManager

    def create(algo="dspg", **kwargs):
        return ExperimentManager(argparse.Namespace(), algo, "Pendulum-v1", str(tmp_path), **kwargs)

    return create


def test_startup_files_are_installed():
    files = {file.name: file for file in importlib.metadata.files("sb3-maxent") or []}
    assert {"sb3_maxent.pth", "sb3_maxent.start", "_sb3_maxent_zoo_hook.py"} <= set(files)
    # PEP 829 resolves this line and calls the result
    install = pkgutil.resolve_name(files["sb3_maxent.start"].read_text().strip())
    assert install is sys.modules["_sb3_maxent_zoo_hook"].install


def test_hook_waits_for_the_modules_that_are_registered():
    assert sys.modules["_sb3_maxent_zoo_hook"].MODULES == set(zoo.MODULES)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
def test_loader_can_be_copied(duplicate):
    loader = sys.modules["_sb3_maxent_zoo_hook"]._Loader(SourceFileLoader("rl_zoo3.utils", "utils.py"))
    assert duplicate(loader).get_filename() == "utils.py"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        loader.nothing  # noqa: B018


@pytest.mark.parametrize("position", [0, 1], ids=["before the hook", "behind the hook"])
def test_second_finder_that_asks_all_finders(fake_zoo, tmp_path, position):
    code = "import sys, rl_zoo3.utils; print(*sys.second.asked, *rl_zoo3.utils.ALGOS)"
    result = run_python("-c", SECOND_FINDER.format(position=position) + code, cwd=tmp_path, PYTHONPATH=fake_zoo())
    assert result.returncode == 0, result.stderr[-2000:]
    assert {"rl_zoo3.utils", "sac", "dspg", "softqlearning"} <= set(result.stdout.split())


@pytest.mark.parametrize("complete", [True, False])
def test_startup_file_without_its_module_is_silent(tmp_path, complete):
    """As after an uninstall that failed half-way."""
    for file in importlib.metadata.files("sb3-maxent"):
        if file.name == "sb3_maxent.pth" or (complete and file.name == "_sb3_maxent_zoo_hook.py"):
            shutil.copy(file.locate(), tmp_path)
    code = "import site, sys; site.addsitedir('.'); print('_sb3_maxent_zoo_hook' in sys.modules)"
    # Without site-packages, which has the module
    result = run_python("-S", "-c", code, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{complete}\n", "")


def test_interpreter_start_is_untouched(tmp_path):
    heavy = "{'sb3_maxent', 'torch', 'stable_baselines3', 'gymnasium', 'rl_zoo3', 'numpy'}"
    code = f"import sys; assert '_sb3_maxent_zoo_hook' in sys.modules; assert not {heavy} & set(sys.modules)"
    result = run_python("-c", code, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_package_does_not_import_rl_zoo3(tmp_path):
    code = "import sys, sb3_maxent.zoo, sb3_maxent.__main__; assert not {'rl_zoo3', 'optuna'} & set(sys.modules)"
    result = run_python("-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("switch, registered", [("0", False), ("1", True)])
def test_off_switch(fake_zoo, tmp_path, switch, registered):
    code = "import sys, rl_zoo3.utils; print('dspg' in rl_zoo3.utils.ALGOS, 'sb3_maxent' in sys.modules)"
    result = run_python("-c", code, cwd=tmp_path, PYTHONPATH=fake_zoo(), SB3_MAXENT_ZOO=switch)
    assert result.stdout.split() == [str(registered)] * 2, result.stderr


def test_registered_silently_and_again_after_a_reload(fake_zoo, tmp_path):
    code = IMPORT_ZOO + (
        "import importlib, sys; from sb3_maxent import DSPG, SoftQLearning, zoo\n"
        "for name in zoo.MODULES:\n"
        "    module = importlib.reload(sys.modules[name])\n"
        "    assert type(module.__loader__).__name__ == type(module.__spec__.loader).__name__ == 'SourceFileLoader'\n"
        "assert rl_zoo3.utils.ALGOS == {'sac': object, 'dspg': DSPG, 'softqlearning': SoftQLearning}\n"
        "assert set(rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER) == {'sac', 'dspg', 'softqlearning'}\n"
        "assert set(rl_zoo3.hyperparams_opt.HYPERPARAMS_CONVERTER) == {'sac', 'dspg', 'softqlearning'}\n"
        "assert rl_zoo3.exp_manager.ExperimentManager('dspg').config == str(zoo.hyperparams_file('dspg'))"
    )
    result = run_python("-W", "error", "-c", code, cwd=tmp_path, PYTHONPATH=fake_zoo())
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("file, old, new, module", [case[1:] for case in FUTURE_ZOOS], ids=[case[0] for case in FUTURE_ZOOS])
def test_future_zoo_gives_one_warning(fake_zoo, tmp_path, file, old, new, module):
    result = run_python("-c", IMPORT_ZOO + "print('zoo works')", cwd=tmp_path, PYTHONPATH=fake_zoo(file, old, new))
    assert (result.returncode, result.stdout) == (0, "zoo works\n"), result.stderr
    assert result.stderr.count("Warning: ") == 1
    assert f"RuntimeWarning: sb3_maxent could not add its algorithms to {module} (" in result.stderr
    assert "does not know this version of rl_zoo3" in result.stderr


def test_broken_package_gives_one_warning(fake_zoo, tmp_path):
    folder = fake_zoo()
    Path(folder, "sb3_maxent.py").write_text("raise ImportError('broken on purpose')")
    result = run_python("-c", IMPORT_ZOO + "print(list(rl_zoo3.utils.ALGOS))", cwd=tmp_path, PYTHONPATH=folder)
    assert (result.returncode, result.stdout) == (0, "['sac']\n"), result.stderr
    assert result.stderr.count("Warning: ") == result.stderr.count("broken on purpose") == 1


def test_key_of_the_zoo_is_kept(fake_zoo, tmp_path):
    code = IMPORT_ZOO + (
        "import sb3_maxent.zoo; sb3_maxent.zoo.register()\n"
        "assert rl_zoo3.utils.ALGOS['dspg'] is int\n"
        "assert 'dspg' not in rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER\n"
        "assert 'dspg' not in rl_zoo3.hyperparams_opt.HYPERPARAMS_CONVERTER\n"
        "print(rl_zoo3.exp_manager.ExperimentManager('dspg').config)"
    )
    folder = fake_zoo("utils.py", "{'sac': object}", "{'sac': object, 'dspg': int}")
    result = run_python("-c", code, cwd=tmp_path, PYTHONPATH=folder)
    assert (result.returncode, result.stdout.strip()) == (0, f"{folder}/rl_zoo3/hyperparams/dspg.yml"), result.stderr
    assert result.stderr.count("Warning: ") == 1
    assert "RL Zoo has an algorithm 'dspg' already" in result.stderr


def test_hyperparameter_file_of_the_zoo_is_kept(fake_zoo, tmp_path):
    folder = fake_zoo()
    shipped = Path(folder, "rl_zoo3", "hyperparams", "dspg.yml")
    shipped.parent.mkdir()
    shipped.touch()
    code = IMPORT_ZOO + "print(rl_zoo3.exp_manager.ExperimentManager('dspg').config)"
    result = run_python("-c", code, cwd=tmp_path, PYTHONPATH=folder)
    assert result.stdout.strip() == str(shipped), result.stderr


def test_register_raises_where_the_hook_warns(fake_zoo, tmp_path):
    folder = fake_zoo("utils.py", "ALGOS", "ALGORITHMS")
    code = "import sb3_maxent.zoo; sb3_maxent.zoo.register()"
    result = run_python("-c", code, cwd=tmp_path, PYTHONPATH=folder, SB3_MAXENT_ZOO="0")
    assert result.returncode == 1
    assert "RuntimeError: rl_zoo3.utils.ALGOS is not a dictionary" in result.stderr


def test_register_without_the_zoo(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "rl_zoo3"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    with pytest.raises(ModuleNotFoundError, match="rl_zoo3"):
        zoo.register()


def test_register_twice(experiment_manager):
    from rl_zoo3 import ALGOS
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    before = ExperimentManager.__init__, dict(ALGOS), dict(HYPERPARAMS_SAMPLER), dict(HYPERPARAMS_CONVERTER)
    zoo.register()
    assert before == (ExperimentManager.__init__, ALGOS, HYPERPARAMS_SAMPLER, HYPERPARAMS_CONVERTER)
    assert ALGOS["dspg"] is DSPG
    assert HYPERPARAMS_SAMPLER["dspg"] is zoo.sample_dspg_params
    assert HYPERPARAMS_CONVERTER["dspg"] is zoo.convert_dspg_params


def test_every_algorithm_is_complete():
    assert set(zoo.ALGORITHMS) == set(zoo.SAMPLERS) == set(zoo.CONVERTERS)
    for key in zoo.ALGORITHMS:
        hyperparams = yaml.safe_load(zoo.hyperparams_file(key).read_text())
        # So that any environment can be trained
        assert {"n_timesteps", "policy"} <= set(hyperparams["default"])


def test_unknown_hyperparameter_file():
    with pytest.raises(FileNotFoundError, match=r"nothing\.yml"):
        zoo.hyperparams_file("nothing")


def test_hyperparameter_file_is_ours_by_default(experiment_manager):
    assert experiment_manager().config == str(zoo.hyperparams_file("dspg"))
    assert experiment_manager("sac").config.endswith("rl_zoo3/hyperparams/sac.yml")


@pytest.mark.parametrize("config", ["mine.yml", "missing/typo.yml", "my_package.hyperparams"])
def test_hyperparameter_file_of_the_user_wins(experiment_manager, config):
    assert experiment_manager(config=config).config == config


def test_train_with_the_real_zoo_and_warnings_as_errors(tmp_path):
    args = "-W error -m rl_zoo3.train --algo dspg --env Pendulum-v1 -n 30 --eval-freq -1 --num-threads 1 --seed 1 -params"
    result = run_python(*args.split(), "learning_starts:25", "batch_size:8", "buffer_size:100", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Loading hyperparameters from: " in result.stdout
    assert (tmp_path / "logs/dspg/Pendulum-v1_1/Pendulum-v1.zip").is_file()
