import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium_env
from stable_baselines3.common.env_checker import check_env

from sb3_maxent import DSPG
from sb3_maxent.envs import DiscretizeAction, DockingEnv, MultiGoalEnv


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


# --- docking -----------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["MultiDiscrete", "MultiBinary"])
def test_checkers_find_nothing_in_docking(kind):
    env = gym.make(f"Docking{kind}-v0")
    assert env.spec.max_episode_steps == 50 and type(env.action_space).__name__ == kind
    check_env(env.unwrapped)
    check_gymnasium_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("kind", ["MultiDiscrete", "MultiBinary"])
def test_render_shows_the_ship(kind):
    env = gym.make(f"Docking{kind}-v0", render_mode="rgb_array")
    images = []
    for position in ([4, -2], [4, -3]):
        env.reset(options={"position": position})
        images.append(env.render())
    assert images[0].shape == (400, 400, 3) and images[0].dtype == np.uint8
    # The second axis is the upper one, and the ship is left of the middle
    changed = np.argwhere((images[0] != images[1]).any(axis=-1))
    assert len(changed) > 50 and changed[:, 0].max() < 200 and changed[:, 1].max() < 200
    assert DockingEnv(kind).render() is None


def fewest_steps(distance):
    """By search through all accelerations, with the environment's own transitions"""
    env = DockingEnv(n_axes=1)
    reached, steps = {(distance, 0)}, 0
    while (0, 0) not in reached:
        following = set()
        for position, velocity in reached:
            for action in range(3):
                env.position, env.velocity = np.array([position]), np.array([velocity])
                env.step(np.array([action]))
                following.add((int(env.position[0]), int(env.velocity[0])))
        reached, steps = following, steps + 1
    return steps


def test_best_return_of_docking_is_that_of_a_search():
    steps = {distance: fewest_steps(distance) for distance in range(1, 9)}
    assert list(steps.values()) == [2, 3, 4, 4, 5, 5, 6, 6]
    env = DockingEnv(n_axes=3)
    for position in ([1, -4, 8], [0, 7, -2], [-3, 0, 0]):
        env.reset(options={"position": position})
        assert env.best_return() == pytest.approx(-sum(steps[abs(x)] - 1 for x in position if x) / 3)


# Of distance 4 and -2: full thrust, full thrust against it, and a wait in between or at the end
PLAN = [(0, 2), (0, 1), (2, 0), (2, 1)]
THRUSTERS = [(1, 0), (1, 1), (0, 1)]


@pytest.mark.parametrize("kind", ["MultiDiscrete", "MultiBinary"])
def test_a_plan_reaches_the_best_return(kind):
    env = DockingEnv(kind)
    env.reset(options={"position": [4, -2]})
    best, total, docked = env.best_return(), 0.0, []
    for accelerations in PLAN:
        action = accelerations if kind == "MultiDiscrete" else np.ravel([THRUSTERS[each] for each in accelerations])
        observation, reward, terminated, truncated, info = env.step(np.array(action))
        total += reward
        docked.append(info["docked"])
    assert (total, docked, terminated, truncated) == (best, [0, 0, 1, 2], True, False) and not observation.any()
    assert best == -(3 + 2) / 2


def test_docking_stops_at_walls_and_stays_in_the_space():
    env = DockingEnv(n_axes=1)
    env.reset(options={"position": [-8]})
    speeds = []
    while not speeds or speeds[-1] > 0:
        observation, reward, *_ = env.step(np.array([2]))
        assert env.observation_space.contains(observation) and reward == -1
        speeds.append(round(5 * observation[1]))
    assert speeds == [1, 2, 3, 4, 5, 0] and observation[0] == 1


def test_starts_of_docking():
    env = DockingEnv()
    starts = np.array([(env.reset(), env.position)[1] for _ in range(4000)])
    env.reset(seed=1)
    returns = [(env.reset(), env.best_return())[1] for _ in range(4000)]
    assert set(starts.ravel()) == {*range(-8, 0), *range(1, 9)} and not env.velocity.any()
    assert np.mean(returns) == pytest.approx(-3.375, abs=0.08)
    assert np.array_equal(env.reset(seed=3)[0], env.reset(seed=3)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DockingEnv("Discrete"), "actions='Discrete' is not one of"),
        (lambda: DockingEnv(n_axes=0), "n_axes=0: give an integer >= 1"),
        (lambda: DockingEnv().reset(options={"position": [9, 0]}), r"position=\[9, 0\]: give 2 whole numbers"),
        (lambda: DockingEnv().reset(options={"position": [0, 0]}), "not all 0"),
        (lambda: DockingEnv().reset(options={"position": [0.5, 1]}), "whole numbers"),
        (lambda: DockingEnv().reset(options={"position": [1]}), "give 2 whole numbers"),
    ],
)
def test_bad_arguments_of_docking(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- discretised actions -----------------------------------------------------------------------------------------------------


class Echo(gym.Env):
    """Shows the action that it got"""

    observation_space = gym.spaces.Box(-10, 10, (2,), np.float32)

    def __init__(self, low, high, dtype=np.float32):
        self.action_space = gym.spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.asarray(action, np.float32), 0.0, False, False, {}


def test_choices_are_values_at_equal_distances():
    env = DiscretizeAction(Echo([-2, 0], [2, 9]), [5, 4])
    assert env.action_space == gym.spaces.MultiDiscrete([5, 4])
    env.reset()
    values = [env.step(np.array([i, min(i, 3)]))[0] for i in range(5)]
    assert np.array_equal(values, [[-2, 0], [-1, 3], [0, 6], [1, 9], [2, 9]])
    assert DiscretizeAction(Echo([-2, 0], [2, 9])).action_space == gym.spaces.MultiDiscrete([5, 5])
    assert DiscretizeAction(Echo([-2], [2], np.int8), 3).action(np.array([2])).dtype == np.int8
    # Integers are the nearest ones
    integers = DiscretizeAction(Echo([-2], [9], np.int8), 4)
    assert [integers.action(np.array([i])).item() for i in range(4)] == [-2, 2, 5, 9]


@pytest.mark.parametrize("n_bins", [np.int64(3), [3, 3], np.array([3, 3])])
def test_numbers_of_numpy(n_bins):
    assert DiscretizeAction(Echo([-1, -1], [1, 1]), n_bins).action_space == gym.spaces.MultiDiscrete([3, 3])


@pytest.mark.filterwarnings("error")
def test_checkers_find_nothing_in_a_discretised_task():
    check_env(DiscretizeAction(gym.make("Pendulum-v1")))


@pytest.mark.parametrize(
    ("env", "n_bins", "message"),
    [
        (lambda: Echo([-1, -1], [1, 1]), 1, "n_bins=1: give an integer >= 2"),
        (lambda: Echo([-1, -1], [1, 1]), [3, 1.5], "n_bins=1.5"),
        (lambda: Echo([-1, -1], [1, 1]), 2.5, "n_bins=2.5: give an integer >= 2"),
        (lambda: Echo([-1, -1], [1, 1]), [3], r"n_bins=\[3\]: give one number, or 2"),
        (lambda: Echo([-np.inf, -1], [1, 1]), 3, "with finite bounds"),
        (lambda: Echo([[-1, -1]], [[1, 1]]), 3, "one-dimensional Box"),
        (lambda: Echo([0], [2], np.int8), 4, "n_bins=4: there are not as many integers from 0 to 2"),
        (lambda: gym.make("CartPole-v1"), 3, r"action_space=Discrete\(2\)"),
    ],
)
def test_what_cannot_be_discretised(env, n_bins, message):
    with pytest.raises(ValueError, match=message):
        DiscretizeAction(env(), n_bins)


def test_dspg_learns_discretised_actions():
    model = DSPG("MlpPolicy", DiscretizeAction(gym.make("Pendulum-v1"), 3), learning_starts=20, batch_size=16, seed=0)
    model.learn(40)
    assert model.action_space == gym.spaces.MultiDiscrete([3])


def test_rl_zoo_discretises():
    """As the page of the environments says"""
    from rl_zoo3.utils import get_wrapper_class

    wrapper = get_wrapper_class({"env_wrapper": [{"sb3_maxent.envs.DiscretizeAction": {"n_bins": 4}}]})
    assert wrapper(gym.make("Pendulum-v1")).action_space == gym.spaces.MultiDiscrete([4])
