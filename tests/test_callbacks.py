"""Every callback of SB3: when it is called, what it leaves and whether it ends the training."""

import numpy as np
import pytest
from gymnasium.wrappers import TransformReward
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from tests.envs import RandomEnv
from tests.models import VARIANTS, VECTOR, actions_of, make_model

pytestmark = [
    pytest.mark.parametrize("variant", VARIANTS),
    pytest.mark.filterwarnings("ignore:.*updates per step"),
]


def make_env(variant, n_envs=1, constant_reward=False, normalise=False):
    """Episodes of five steps"""
    actions = actions_of(variant)

    def make():
        env = RandomEnv(VECTOR, actions)
        return TransformReward(env, lambda reward: 1.0) if constant_reward else env

    env = make_vec_env(make, n_envs, seed=0)
    return VecNormalize(env) if normalise else env


class Recorder(BaseCallback):
    """
    Remembers the steps of its calls.

    :param stop_at: Step at which the training ends
    """

    def __init__(self, stop_at=None):
        super().__init__()
        self.stop_at, self.events, self.steps = stop_at, [], []

    def _on_training_start(self):
        self.events.append("training start")

    def _on_rollout_start(self):
        self.events.append("rollout start")

    def _on_rollout_end(self):
        self.events.append("rollout end")

    def _on_training_end(self):
        self.events.append("training end")

    def _on_step(self):
        self.steps.append(self.num_timesteps)
        return self.num_timesteps != self.stop_at


class Writer(KVWriter):
    """Keeps what is logged, by step"""

    def __init__(self):
        self.written = {}

    def write(self, key_values, key_excluded, step=0):
        self.written.setdefault(step, {}).update(key_values)

    def close(self):
        pass


def with_writer(model):
    writer = Writer()
    model.set_logger(Logger(None, [writer]))
    return writer


@pytest.mark.parametrize("n_envs", [1, 2])
def test_order_of_events(variant, n_envs):
    model, callback = make_model(variant, make_env(variant, n_envs), train_freq=5, gradient_steps=3), Recorder()
    model.learn(10 * n_envs, callback)
    rollout = ["rollout start", "rollout end"]
    assert callback.events == ["training start", *rollout, *rollout, "training end"]
    assert callback.steps == list(range(n_envs, 10 * n_envs + 1, n_envs))
    # Counted on over several calls, unless told otherwise
    model.learn(5 * n_envs, callback, reset_num_timesteps=False)
    assert callback.steps[-1] == model.num_timesteps == 15 * n_envs
    model.learn(5 * n_envs, callback)
    assert callback.steps[-1] == model.num_timesteps == 5 * n_envs


@pytest.mark.parametrize("stop_at", [7, 32])
def test_cancelling(variant, stop_at):
    """At once: the step is not stored and the rollout not trained on any more, and one can go on"""
    model, other = make_model(variant, make_env(variant), train_freq=4, gradient_steps=1), Recorder()
    model.learn(60, [Recorder(stop_at), other])
    assert model.num_timesteps == other.steps[-1] == model.replay_buffer.pos + 1 == stop_at
    assert other.events[-1] == "training end"
    # After 24 and 28
    assert model._n_updates == (0 if stop_at == 7 else 2)
    assert model.learn(60, reset_num_timesteps=False).num_timesteps == stop_at + 60


def test_convert_callback(variant):
    """A plain function, which sees the local variables"""
    seen = []

    def callback(local_variables, global_variables):
        seen.append((local_variables["self"].num_timesteps, local_variables["new_obs"].shape))
        return len(seen) < 12

    model = make_model(variant, make_env(variant)).learn(60, callback)
    assert seen == [(step, (1, 3)) for step in range(1, 13)] and model.num_timesteps == 12


def test_callback_list(variant):
    """Nested or not; one that ends the training does not keep the others from being called"""
    recorders = [Recorder(), Recorder(9), Recorder()]
    model = make_model(variant, make_env(variant))
    model.learn(60, CallbackList([recorders[0], CallbackList(recorders[1:])]))
    assert all(recorder.steps == list(range(1, 10)) for recorder in recorders)
    model.learn(4, recorders)
    assert all(recorder.steps[9:] == [1, 2, 3, 4] for recorder in recorders)
    assert model.learn(4, callback=None).num_timesteps == 4


@pytest.mark.parametrize("n_envs", [1, 2])
def test_every_n_timesteps(variant, n_envs):
    event = Recorder()
    make_model(variant, make_env(variant, n_envs)).learn(30, EveryNTimesteps(7, event))
    assert event.steps == ([7, 14, 21, 28] if n_envs == 1 else [8, 16, 24])
    stop = EveryNTimesteps(7, Recorder(14))
    assert make_model(variant, make_env(variant)).learn(30, stop).num_timesteps == 14


def test_log_every_n_timesteps(variant):
    model = make_model(variant, make_env(variant))
    writer = with_writer(model)
    model.learn(40, LogEveryNTimesteps(12), log_interval=None)
    assert list(writer.written) == [12, 24, 36]
    assert all(writer.written[step]["time/total_timesteps"] == step for step in writer.written)
    assert "train/critic_loss" in writer.written[36] and "train/critic_loss" not in writer.written[12]


@pytest.mark.parametrize(("n_envs", "steps"), [(1, 15), (2, 30)])
def test_stop_training_on_max_episodes(variant, n_envs, steps):
    model = make_model(variant, make_env(variant, n_envs)).learn(100, StopTrainingOnMaxEpisodes(3))
    assert model.num_timesteps == steps


def test_progress_bar(variant):
    callback = ProgressBarCallback()
    make_model(variant, make_env(variant, 2)).learn(30, callback)
    assert callback.pbar.n == callback.pbar.total == 30
    assert make_model(variant, make_env(variant)).learn(30, progress_bar=True).num_timesteps == 30


@pytest.mark.parametrize("normalise", [False, True])
def test_checkpoint_callback(variant, normalise, tmp_path):
    """The files, each as the model was at that step"""
    model = make_model(variant, make_env(variant, normalise=normalise))
    model.learn(40, CheckpointCallback(15, tmp_path, "a", save_replay_buffer=True, save_vecnormalize=True))
    expected = {f"a_{step}_steps.zip" for step in (15, 30)} | {f"a_replay_buffer_{step}_steps.pkl" for step in (15, 30)}
    expected |= {f"a_vecnormalize_{step}_steps.pkl" for step in (15, 30)} if normalise else set()
    assert {path.name for path in tmp_path.iterdir()} == expected
    loaded = VARIANTS[variant].algorithm.load(tmp_path / "a_30_steps", env=make_env(variant, normalise=normalise))
    loaded.load_replay_buffer(tmp_path / "a_replay_buffer_30_steps")
    assert (loaded.num_timesteps, loaded._n_updates) == (30, 9)
    # The step itself is stored after the callback
    assert loaded.replay_buffer.pos == 29
    if normalise:
        env = VecNormalize.load(tmp_path / "a_vecnormalize_30_steps.pkl", make_env(variant))
        assert env.obs_rms.count == pytest.approx(31, abs=1e-3)


def test_checkpoints_of_an_event(variant, tmp_path):
    callback = EveryNTimesteps(10, CheckpointCallback(1, tmp_path, "event"))
    make_model(variant, make_env(variant, 2)).learn(40, callback)
    assert {path.name for path in tmp_path.iterdir()} == {f"event_{step}_steps.zip" for step in (10, 20, 30, 40)}


def test_eval_callback(variant, tmp_path):
    model, recorders = make_model(variant, make_env(variant)), [Recorder(), Recorder()]
    writer = with_writer(model)
    callback = EvalCallback(
        make_env(variant), *recorders, 3, 10, str(tmp_path), str(tmp_path / "best"), deterministic=False, verbose=0
    )
    model.learn(35, callback)
    with np.load(tmp_path / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [10, 20, 30]
        assert evaluations["results"].shape == (3, 3) and (evaluations["ep_lengths"] == 5).all()
        means = evaluations["results"].mean(axis=1)
    # Written at the step of the evaluation
    assert [writer.written[step]["eval/mean_reward"] for step in (10, 20, 30)] == pytest.approx(means.tolist())
    best = [10 * (i + 1) for i in range(3) if means[i] > max(means[:i], default=-np.inf)]
    assert recorders[0].steps == best and recorders[1].steps == [10, 20, 30]
    assert VARIANTS[variant].algorithm.load(tmp_path / "best" / "best_model").num_timesteps == best[-1]


@pytest.mark.parametrize(("threshold", "steps"), [(4.9, 10), (5.1, 30)])
def test_stop_training_on_reward_threshold(variant, threshold, steps):
    """Each episode has a reward of 5"""
    stop = StopTrainingOnRewardThreshold(threshold)
    callback = EvalCallback(make_env(variant, constant_reward=True), stop, eval_freq=10, verbose=0)
    assert make_model(variant, make_env(variant)).learn(30, callback).num_timesteps == steps


@pytest.mark.parametrize(("min_evals", "steps"), [(0, 30), (2, 40)])
def test_stop_training_on_no_model_improvement(variant, min_evals, steps):
    """Never better than at first: the second evaluation without progress is one too many"""
    stop = StopTrainingOnNoModelImprovement(max_no_improvement_evals=1, min_evals=min_evals)
    callback = EvalCallback(
        make_env(variant, constant_reward=True), callback_after_eval=stop, eval_freq=10, n_eval_episodes=1, verbose=0
    )
    assert make_model(variant, make_env(variant)).learn(60, callback).num_timesteps == steps


def test_eval_callback_and_vec_normalize(variant):
    """The statistics of the training are used, and an environment without is refused"""
    model, eval_env = make_model(variant, make_env(variant, normalise=True)), make_env(variant, normalise=True)
    eval_env.training, eval_env.norm_reward = False, False
    model.learn(20, EvalCallback(eval_env, eval_freq=20, verbose=0))
    env = model.get_vec_normalize_env()
    assert np.array_equal(eval_env.obs_rms.mean, env.obs_rms.mean) and eval_env.ret_rms.var == env.ret_rms.var
    model = make_model(variant, make_env(variant, normalise=True))
    with pytest.warns(UserWarning, match="Training and eval env are not of the same type"):
        with pytest.raises(AssertionError, match="expected the eval env to be a VecEnvWrapper"):
            model.learn(20, EvalCallback(make_env(variant), eval_freq=20, verbose=0))


def test_eval_success_logging(variant, tmp_path):
    arguments = {"n_bits": 2, "continuous": "Discrete" not in variant}
    model = make_model(variant, DummyVecEnv([lambda: BitFlippingEnv(**arguments)]), "MultiInputPolicy")
    writer = with_writer(model)
    eval_env = make_vec_env(BitFlippingEnv, env_kwargs=arguments)
    callback = EvalCallback(eval_env, eval_freq=15, n_eval_episodes=4, log_path=str(tmp_path), deterministic=False, verbose=0)
    model.learn(30, callback)
    with np.load(tmp_path / "evaluations.npz") as evaluations:
        assert evaluations["successes"].shape == (2, 4)
        assert writer.written[30]["eval/success_rate"] == evaluations["successes"][1].mean()
