import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium_env
from stable_baselines3.common.env_checker import check_env

import sb3_maxent  # noqa: F401  (registers the environments)
from sb3_maxent.envs import MultiGoalEnv


@pytest.mark.filterwarnings("error")
def test_checkers_find_nothing():
    check_env(MultiGoalEnv())
    check_gymnasium_env(gym.make("MultiGoal-v0", render_mode="rgb_array").unwrapped, skip_render_check=True)


@pytest.mark.parametrize(
    ("start", "action", "position", "reward", "goal"),
    [
        ((0, 0), (0, 0), (0, 0), -25.0, -1),
        ((0, 0), (1, 0), (1, 0), -30 - 16, -1),
        ((0, 0), (-0.5, 0.5), (-0.5, 0.5), -15 - (0.25 + 4.5**2), -1),
        ((3.5, 0), (0.75, 0), (4.25, 0), -30 * 0.5625 - 0.5625 + 10, 0),
        ((0, -5.5), (0, 0.25), (0, -5.25), -30 * 0.0625 - 0.0625 + 10, 3),
        # Clipped action, clipped position
        ((6.5, 6.5), (3, 0.75), (7, 7), -30 * 1.5625 - (4 + 49), -1),
        # At a distance of exactly 1 the goal is not reached
        ((-3.5, 0), (-0.5, 0), (-4, 0), -30 * 0.25 - 1, -1),
    ],
)
def test_dynamics(start, action, position, reward, goal):
    env = MultiGoalEnv(start=start)
    env.reset()
    observation, actual, terminated, truncated, info = env.step(np.array(action, np.float32))
    assert np.allclose(observation, position)
    assert actual == pytest.approx(reward, abs=1e-5)
    assert (terminated, truncated, info["goal"]) == (goal >= 0, False, goal)


def test_starts_near_the_origin_with_the_seed():
    env = MultiGoalEnv()
    starts = np.array([env.reset(seed=seed)[0] for seed in range(500)])
    assert np.abs(starts.mean(axis=0)).max() < 0.02
    assert starts.std(axis=0) == pytest.approx([0.1, 0.1], abs=0.01)
    assert np.array_equal(env.reset(seed=3)[0], starts[3])


def test_time_limit_is_a_truncation():
    env = gym.make("MultiGoal-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(30)]
    assert ends == [(False, False)] * 29 + [(False, True)]


def test_render_shows_the_path():
    env = MultiGoalEnv(render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(np.ones(2, np.float32))
    after = env.render()
    assert before.shape == (400, 400, 3) and before.dtype == np.uint8
    # The point moved right and up, and only there
    changed = np.argwhere((before != after).any(axis=-1))
    assert len(changed) > 50
    assert (
        changed[:, 0].min() >= 150 and changed[:, 0].max() <= 215 and changed[:, 1].min() >= 185 and changed[:, 1].max() <= 250
    )
    assert MultiGoalEnv().render() is None


@pytest.mark.parametrize("start", [(8, 0), (0, 0, 0), 1.0, (float("nan"), 0)])
def test_bad_start(start):
    with pytest.raises(ValueError, match="give a position"):
        MultiGoalEnv(start=start)
