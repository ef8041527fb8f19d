import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

from sb3_maxent import __main__
from tests.zoo.interpreter import run_python

ENJOY = Path(__file__).parents[2] / "enjoy.py"


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "the following arguments are required: script"),
        (["trian", "--algo", "dspg"], "invalid choice: 'trian'"),
        (["plots"], "invalid choice: 'plots'"),
    ],
)
def test_usage(monkeypatch, capsys, args, message):
    monkeypatch.setattr(sys, "argv", ["sb3_maxent", *args])
    with pytest.raises(SystemExit) as exit_info:
        __main__.main()
    error = capsys.readouterr().err
    assert exit_info.value.code == 2
    assert error.startswith("usage: python -m sb3_maxent [-h] script ...")
    assert message in error


def test_help_lists_the_scripts(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sb3_maxent", "--help"])
    with pytest.raises(SystemExit) as exit_info:
        __main__.main()
    assert not exit_info.value.code
    listed = capsys.readouterr().out.replace(",", " ").split()
    assert set(__main__.SCRIPTS) <= set(listed)


def test_scripts_exist():
    assert [script for script in __main__.SCRIPTS if importlib.util.find_spec(f"rl_zoo3.{script}") is None] == []


def test_arguments_reach_the_script(monkeypatch):
    called = {}

    def run_module(name, run_name, alter_sys):
        called.update(name=name, run_name=run_name, argv=sys.argv[1:])

    monkeypatch.setattr(runpy, "run_module", run_module)
    monkeypatch.setattr(sys, "argv", ["sb3_maxent", "plots.plot_train", "-a", "dspg", "--help"])
    __main__.main()
    assert called == {"name": "rl_zoo3.plots.plot_train", "run_name": "__main__", "argv": ["-a", "dspg", "--help"]}


@pytest.mark.parametrize(
    "command, listed",
    [(["-m", "sb3_maxent", "train"], True), ([str(ENJOY)], True), (["-m", "rl_zoo3.train"], False)],
    ids=["wrapper", "enjoy.py", "control"],
)
def test_works_without_the_hook(tmp_path, command, listed):
    result = run_python(*command, "--help", cwd=tmp_path, SB3_MAXENT_ZOO="0")
    assert result.returncode == 0, result.stderr
    assert "ppo" in result.stdout
    assert ("dspg" in result.stdout) == listed
