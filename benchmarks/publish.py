"""
Makes a trained agent of a run ready for others: RL Zoo's folder, small, and with a model card.

    python -m benchmarks.publish logs/benchmarks/EXPERIMENT/RUN benchmarks/results/EXPERIMENT/RUN.json trained_agents

The agent is the one of the run's best evaluation. Its optimizers are saved without their moments, which only a training that
goes on needs, and which are two thirds of the file. The card has the return of new episodes, the command, the versions and
the hyperparameters. ``python -m rl_zoo3.enjoy --algo ALGO --env ENV -f trained_agents`` shows the agent.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_maxent.zoo import ALGORITHMS

N_EPISODES = 20

CARD = """
# {title} on {env}

An agent of {title} (sb3-maxent, a plugin of Stable-Baselines3) that was trained with
[RL Zoo](https://github.com/DLR-RM/rl-baselines3-zoo).

Mean return of {n_episodes} new episodes with deterministic actions: **{mean:.0f}**, standard deviation {std:.0f}.

```bash
pip install ".[zoo]"  # in a clone of the repository of sb3-maxent; and the extra of Gymnasium that the task needs
python -m rl_zoo3.enjoy --algo {algo} --env {env} -f trained_agents
```

```python
from sb3_maxent import {title}

model = {title}.load("trained_agents/{algo}/{env}_1/{env}.zip")
```

## Training

{steps} environment steps with seed {seed}, on one core of an {processor} in {minutes} minutes, other runs beside it:

```bash
{command}
```

The agent is the one of the best evaluation of the run, after {agent_steps} steps, and the run has one seed:
[the benchmarks](../../../benchmarks/README.md) have what others reach. If it is trained further, its optimizers start anew,
and the replay buffer is empty.

| hyperparameter | value |
|---|---|
{hyperparameters}

What is not named is the default of the class. Versions: {versions}.
"""


def lightened(model: BaseAlgorithm) -> BaseAlgorithm:
    """
    Forget the moments of all optimizers, and the schedule of RL Zoo, without which the file could not be read.

    :param model: The model
    :return: The same model
    """
    if type(model.learning_rate).__module__.startswith("rl_zoo3."):
        model.learning_rate = f"lin_{model.learning_rate(1.0)}"  # type: ignore[assignment,operator]
        model._setup_lr_schedule()
    parameters: Any = model.get_parameters()
    for name, state in parameters.items():
        if name.endswith("optimizer"):
            parameters[name] = {**state, "state": {}}
    model.set_parameters(parameters)
    return model


def model_card(result: dict[str, Any], agent_steps: int, title: str, returns: list[float]) -> str:
    """
    Describe an agent.

    :param result: Result of its run
    :param agent_steps: Steps of the run after which the agent was saved
    :param title: Name of its class
    :param returns: Returns of new episodes
    :return: Markdown, with the fields that the Hugging Face Hub reads at its beginning
    """
    mean, std = float(np.mean(returns)), float(np.std(returns))
    metric = {"type": "mean_reward", "value": f"{mean:.2f} +/- {std:.2f}", "name": "mean_reward", "verified": False}
    task = {"type": "reinforcement-learning", "name": "reinforcement-learning"}
    dataset = {"name": result["env"], "type": result["env"]}
    fields = {
        "library_name": "stable-baselines3",
        "license": "mit",
        "tags": [result["env"], "deep-reinforcement-learning", "reinforcement-learning", "stable-baselines3"],
        "model-index": [{"name": title, "results": [{"task": task, "dataset": dataset, "metrics": [metric]}]}],
    }
    # The number of steps is that of the command, not that of the file of hyperparameters
    hyperparameters = {key: value for key, value in result["hyperparameters"].items() if key != "n_timesteps"}
    text = CARD.format(
        **{key: result[key] for key in ("algo", "env", "steps", "seed", "processor", "command")},
        title=title,
        agent_steps=agent_steps,
        n_episodes=len(returns),
        mean=mean,
        std=std,
        minutes=round(result["wall_clock"] / 60),
        hyperparameters="\n".join(f"| `{key}` | `{value}` |" for key, value in hyperparameters.items()),
        versions=", ".join(f"{name} {version}" for name, version in result["versions"].items()),
    )
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n{text}"


def publish(run: Path, result_file: Path, target: Path) -> Path:
    """
    Write the folder of an agent.

    :param run: Log folder of a finished run
    :param result_file: Its result
    :param target: Folder of all agents
    :return: The agent's folder
    :raises ValueError: If the result is that of another run, or of a changed environment
    """
    result = json.loads(result_file.read_text())
    algo, env_id = result["algo"], result["env"]
    # One folder for each start of the run: the best agent may be of an earlier one than the last
    source = max(run.glob("*/*/best_model.zip"), key=lambda path: path.stat().st_mtime).parent
    if changed := [name for name in ("normalize", "env_wrapper", "frame_stack") if result["hyperparameters"].get(name)]:
        raise ValueError(f"{result_file} has {changed}: only agents of the environment as it is can be evaluated")
    model = lightened(ALGORITHMS[algo].load(source / "best_model.zip", device="cpu"))
    # The evaluation of this agent: a kill loses later ones of the same folder
    saved, steps = np.load(source / "evaluations.npz"), model.num_timesteps
    mean = dict(zip(saved["timesteps"].tolist(), saved["results"].mean(axis=1), strict=True))[steps]
    recorded = dict(zip(result["evaluations"]["timesteps"], result["evaluations"]["mean_return"], strict=True)).get(steps)
    if recorded is None or abs(mean - recorded) > 0.1:
        raise ValueError(f"{source} is not the run of {result_file}: after {steps} steps it has {mean:.1f}, not {recorded}")
    folder = target / algo / f"{env_id}_1"
    shutil.copytree(source / env_id, folder / env_id, dirs_exist_ok=True)
    shutil.copy(source / "evaluations.npz", folder)
    model.save(folder / env_id)
    # RL Zoo's own function would do, but to import it changes all environments of the process
    env = make_vec_env(env_id, seed=1000)
    returns, _ = evaluate_policy(model, env, N_EPISODES, deterministic=True, return_episode_rewards=True)
    card = model_card(result, model.num_timesteps, type(model).__name__, returns)  # type: ignore[arg-type]
    (folder / "README.md").write_text(card)
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "result", "target"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    print(publish(given.run, given.result, given.target))
