"""
The scripts of RL Zoo as a user types them: through the startup file and through ``python -m sb3_maxent``.

Whichever is installed is tested, a wheel or an editable install: ``pytest -m slow tests/zoo``.
"""

import importlib.util
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.zoo.interpreter import run_python

pytestmark = pytest.mark.slow

ENJOY = Path(__file__).parents[2] / "enjoy.py"
WAYS_IN = {
    "hook": ("-m rl_zoo3.", {}),
    "wrapper": ("-m sb3_maxent ", {"SB3_MAXENT_ZOO": "0"}),
}

# A user's own files, in the working directory
FILES = {
    "mine.yml": "Pendulum-v1: {n_timesteps: 60, policy: MlpPolicy, learning_starts: 50, batch_size: 8, buffer_size: 100}",
    "her.yml": "default: {n_timesteps: 60, policy: MultiInputPolicy, learning_starts: 40, buffer_size: 100, "
    "replay_buffer_class: HerReplayBuffer, replay_buffer_kwargs: 'dict(n_sampled_goal=4, copy_info_dict=True)'}",
    "my_envs.py": "import gymnasium\n"
    "gymnasium.register('BitFlip-v0', entry_point='stable_baselines3.common.envs:BitFlippingEnv',"
    " kwargs=dict(n_bits=2, continuous=True), max_episode_steps=2)",
}

ON = "--algo dspg --env Pendulum-v1"
TRAIN = f"train {ON} --seed 1 --num-threads 1 --eval-freq -1"
SMALL = "-params learning_starts:50 batch_size:16 buffer_size:1000"
ENJOY_IT = f"enjoy {ON} -f logs --no-render -n 210"
STUDY = "--storage study.log --study-name study"
HER = "--algo dspg --env BitFlip-v0 --gym-packages my_envs"
TRAIN_HER = f"train {HER} --seed 1 --num-threads 1 --eval-freq -1 -conf her.yml"
HER_STUDY = "--storage her.log --study-name her"
TUNE = "--optimize --n-trials 2 --n-evaluations 1 --no-optim-plots"

SOFT = "--algo softqlearning --env MultiGoal-v0"
TRAIN_SOFT = f"train {SOFT} --seed 1 --num-threads 1 --eval-freq -1"
SOFT_STUDY = "--storage soft.log --study-name soft"

# Run with two seeds, before the table below
BASE = f"{TRAIN} -f logs -n 450 --eval-freq 200 --eval-episodes 2 --save-freq 200 --save-replay-buffer {SMALL}"
BASE_FILES = [
    "Pendulum-v1.zip",
    "best_model.zip",
    "rl_model_200_steps.zip",
    "rl_model_400_steps.zip",
    "replay_buffer.pkl",
    "evaluations.npz",
    "0.monitor.csv",
    "Pendulum-v1/config.yml",
]


class Case(NamedTuple):
    """
    Commands, and what shows that the last one did its work.

    :param name: Name of the test
    :param commands: Commands without ``python -m rl_zoo3.``
    :param output: What the last one prints
    :param file: What is there afterwards, a pattern
    :param options: Options of the interpreter
    """

    name: str
    commands: list[str]
    output: str = ""
    file: str = "*"
    options: str = ""


CASES = [
    *(
        Case(f"{script} --help", [f"{script} --help"], output="dspg")
        for script in ("train", "enjoy", "record_video", "record_training", "load_from_hub")
    ),
    Case(
        "warnings are errors", [f"{TRAIN} -f strict -n 60 {SMALL}"], file="strict/dspg/*/Pendulum-v1.zip", options="-W error"
    ),
    Case("enjoy, warnings are errors", [ENJOY_IT], output="Mean reward", options="-W error"),
    Case("our file", [f"{TRAIN} -f ours -n 60 {SMALL}"], "hyperparams/dspg.yml", "ours/dspg/*/Pendulum-v1.zip"),
    Case("-conf", [f"{TRAIN} -f conf -conf mine.yml"], "hyperparameters from: mine.yml", "conf/dspg/*/Pendulum-v1.zip"),
    Case(
        "subprocesses",
        [f"{TRAIN} -f subproc -n 80 --vec-env subproc {SMALL} n_envs:2"],
        "Using 2 environments",
        "subproc/dspg/*/Pendulum-v1.zip",
    ),
    Case(
        "VecNormalize",
        [f"{TRAIN} -f norm -n 60 {SMALL} normalize:True", f"enjoy {ON} -f norm --no-render -n 210"],
        "Mean reward",
        "norm/dspg/*/Pendulum-v1/vecnormalize.pkl",
    ),
    Case(
        "critic schedule",
        [f"{TRAIN} -f schedule -n 60 {SMALL} qf_learning_rate:'lin_3e-4' learning_rate:'lin_1e-4'"],
        "lin_3e-4",
        "schedule/dspg/*/Pendulum-v1.zip",
    ),
    Case(
        "resume",
        [f"{TRAIN} -f resumed -n 60 -i logs/dspg/Pendulum-v1_1/rl_model_200_steps.zip {SMALL}"],
        "Loading replay buffer",
        "resumed/dspg/*/Pendulum-v1.zip",
    ),
    Case(
        "optimize and --trial-id",
        [f"{TRAIN} -f tuning -n 60 {TUNE} {STUDY} {SMALL}", f"{TRAIN} -f tuned -n 60 {STUDY} --trial-id 1"],
        "Loading from Optuna study",
        "tuned/dspg/*/Pendulum-v1.zip",
    ),
    Case(
        "HER",
        [f"{TRAIN_HER} -f her -n 60", f"enjoy {HER} -f her --no-render -n 20"],
        "Success rate",
        "her/dspg/*/BitFlip-v0.zip",
    ),
    Case(
        "HER, optimize and --trial-id",
        [f"{TRAIN_HER} -f her_tuning -n 60 {TUNE} {HER_STUDY}", f"{TRAIN_HER} -f her_tuned -n 60 {HER_STUDY} --trial-id 1"],
        "'copy_info_dict': True",
        "her_tuned/dspg/*/BitFlip-v0.zip",
    ),
    Case("enjoy", [ENJOY_IT], "Mean reward"),
    Case("enjoy the best in 2 environments", [f"{ENJOY_IT} --load-best --n-envs 2"], "best_model.zip"),
    Case("enjoy the last checkpoint", [f"{ENJOY_IT} --load-last-checkpoint --stochastic"], "rl_model_400_steps.zip"),
    Case("record_video", [f"record_video {ON} -f logs -n 5 -o videos"], file="videos/*.mp4"),
    Case(
        "benchmark",
        ["benchmark --no-hub --log-dir logs --benchmark-dir bench -n 210 --num-threads 1"],
        "Mean reward: ",
        "bench/benchmark.md",
    ),
    Case("plot_train", ["plots.plot_train -a dspg -e Pendulum-v1 -f logs -w 1"]),
    Case("all_plots", ["plots.all_plots -a dspg -e Pendulum-v1 -f logs --no-display -o all"], file="all.pkl"),
    Case(
        "plot_from_file",
        ["plots.all_plots -a dspg -e Pendulum-v1 -f logs --no-display -o file", "plots.plot_from_file -i file.pkl -o figure"],
        file="figure*",
    ),
    Case(
        "Soft Q-learning, our environment",
        [f"{TRAIN_SOFT} -f soft -n 60 {SMALL}", f"enjoy {SOFT} -f soft --no-render -n 60"],
        "Mean reward",
        "soft/softqlearning/*/MultiGoal-v0.zip",
        options="-W error",
    ),
    Case(
        "Soft Q-learning, --gym-packages",
        [f"{TRAIN_SOFT} -f soft_packages -n 60 {SMALL} --gym-packages sb3_maxent"],
        "hyperparams/softqlearning.yml",
        "soft_packages/softqlearning/*/MultiGoal-v0.zip",
    ),
    Case(
        "Soft Q-learning, optimize and --trial-id",
        [
            f"{TRAIN_SOFT} -f soft_tuning -n 60 {TUNE} {SOFT_STUDY} {SMALL}",
            f"{TRAIN_SOFT} -f soft_tuned -n 60 {SOFT_STUDY} --trial-id 1",
        ],
        "Loading from Optuna study",
        "soft_tuned/softqlearning/*/MultiGoal-v0.zip",
    ),
    Case(
        "Soft Q-learning, discrete actions",
        [f"{TRAIN_SOFT.replace('MultiGoal-v0', 'CartPole-v1')} -f discrete -n 60 {SMALL}"],
        file="discrete/softqlearning/*/CartPole-v1.zip",
    ),
    Case(
        "SAC is untouched", [f"{TRAIN.replace('dspg', 'sac')} -f sac -n 60"], "rl_zoo3/hyperparams/sac.yml", "sac/sac/*/*.zip"
    ),
]


def run(way_in: str, command: str, cwd: Path, options: str = "") -> str:
    prefix, env = WAYS_IN[way_in]
    result = run_python(*f"{options} {prefix}{command}".split(), cwd=cwd, **env)
    assert result.returncode == 0, f"{prefix}{command}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}"
    return result.stdout


@pytest.fixture(scope="module", params=WAYS_IN)
def workspace(request, tmp_path_factory):
    """A way in, and a folder with a trained agent."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copy(ENJOY, folder)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    for seed in (1, 2):
        run(request.param, f"{BASE} --seed {seed}", folder)
    return request.param, folder


@pytest.mark.parametrize("run_id", [1, 2])
def test_train(workspace, run_id):
    _, folder = workspace
    assert [name for name in BASE_FILES if not (folder / f"logs/dspg/Pendulum-v1_{run_id}" / name).is_file()] == []


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_command(workspace, case):
    if case.name == "record_video" and not all(map(importlib.util.find_spec, ("pygame", "moviepy"))):
        pytest.skip("record_video on Pendulum needs pygame and moviepy")
    way_in, folder = workspace
    for command in case.commands:
        output = run(way_in, command, folder, case.options)
    assert case.output in output
    assert list(folder.glob(case.file)) != []


def test_benchmark_table_has_a_row(workspace):
    way_in, folder = workspace
    run(way_in, "benchmark --no-hub --log-dir logs --benchmark-dir rows -n 210 --num-threads 1", folder)
    assert "|dspg|Pendulum-v1|" in (folder / "rows/benchmark.md").read_text().replace(" ", "")


@pytest.mark.parametrize("script, expected", [("train", "Saving to"), ("enjoy", "Mean reward")])
def test_console_script(workspace, script, expected):
    """The ``rl_zoo3`` command of a shell."""
    way_in, folder = workspace
    if way_in == "wrapper":
        pytest.skip("the command needs the startup file")
    commands = {"train": f"{TRAIN} -f cli -n 60 {SMALL}", "enjoy": ENJOY_IT}
    assert expected in run(way_in, f"cli {commands[script]}", folder)
