"""The swimmer with a finish line and the mazes: rewards, ends and spaces as documented."""

import sys
from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3

from sb3_maxent import SoftQLearning
from sb3_maxent.envs.mazes import LAYOUTS, MazeTaskEnv
from sb3_maxent.saving.checkpoints import load_checkpoint, save_checkpoint
from tests.models import make_model

# What the checkers say of observations without bounds
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
NAMES = ["TwoPassages", "UMaze", "Arena", "WideHallway", "NarrowHallway"]
needs_mazes = pytest.mark.skipif(find_spec("gymnasium_robotics") is None, reason="needs the extra mazes")


def test_swimmer_is_checked():
    env = gym.make("SwimmerFinishLine-v0")
    assert env.spec.max_episode_steps == 500
    check_env(env.unwrapped, skip_render_check=True)
    check_env_of_sb3(env)


@pytest.mark.parametrize(
    ("x", "velocity", "expected"), [(0, 0.5, 0.5), (0, -0.5, 0.5), (2, 0.5, 1.5), (2, -0.5, 0.0), (1.95, -1.0, 1.0)]
)
def test_swimmer_pays_both_directions_before_the_line_and_more_behind_it(x, velocity, expected):
    """The center of mass is the one of a straight body"""
    env = gym.make("SwimmerFinishLine-v0").unwrapped
    env.reset(seed=0)
    env.data.qpos[:] = 0
    offset = env._find_center()
    env.x_center = x - velocity * env.dt
    env.data.qpos[0] = x - offset
    action = np.array([1.0, -0.5])
    reward, parts = env._get_rew(0.0, action)
    assert reward == pytest.approx(expected - 1e-4 * 1.25) and parts["reward_forward"] == pytest.approx(expected)
    assert env.x_center == pytest.approx(x)


def test_center_of_the_swimmer_is_that_of_its_links():
    """With the second joint at a right angle, the mean of the middles of three equal links"""
    env = gym.make("SwimmerFinishLine-v0").unwrapped
    env.reset(seed=0)
    env.data.qpos[:] = (3.0, 0, 0, 0, np.pi / 2)
    center = env._find_center()
    middles = [env.data.geom(number).xpos[0] for number in range(env.model.ngeom) if env.model.geom_bodyid[number] > 0]
    assert len(middles) == 3 and center == pytest.approx(np.mean(middles)) and len(np.unique(np.round(middles, 6))) == 3


def test_swimmer_is_not_paid_for_shaking():
    """Opposite torques that change sign every half second move the front end by metres, and the whole hardly"""
    env = gym.make("SwimmerFinishLine-v0")
    env.reset(seed=0)
    front = total = 0.0
    for step in range(300):
        sign = 1.0 if step // 12 % 2 else -1.0
        _, reward, _, _, info = env.step(np.array([sign, -sign], np.float32))
        front, total = front + abs(info["x_velocity"]) / 300, total + reward / 300
    assert front > 0.5 and 0 < total < 0.01


def test_swimmer_remembers_how_far_it_came():
    env = gym.make("SwimmerFinishLine-v0", finish_line=0.5)
    env.reset(seed=0)
    swimmer = env.unwrapped
    positions = [swimmer.x_center]
    for velocity in (1, 1, 1, -2, -2):
        swimmer.data.qvel[0] = velocity
        _, _, _, _, info = env.step(env.action_space.sample())
        positions.append(info["x_center"])
        assert positions[-1] == swimmer._find_center()
    assert info["max_x"] == max(positions) > positions[-1]
    env.reset()
    assert swimmer.x_center == swimmer.max_x < info["max_x"]
    with pytest.raises(ValueError, match="finish_line=-1"):
        gym.make("SwimmerFinishLine-v0", finish_line=-1)


def test_all_mazes_are_registered():
    names = {f"{robot}{name}-v0" for robot in ("Point", "Ant") for name in NAMES}
    assert names <= set(gym.registry) and len(names) == 2 * len(LAYOUTS)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"robot": "fly"}, "robot='fly' is not one of"), ({"layout": "x"}, "layout='x' is not one of")]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MazeTaskEnv(**arguments)


def test_without_the_extra_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics.envs.maze.ant_maze_v5", None)
    with pytest.raises(gym.error.DependencyNotInstalled, match=r"sb3-maxent\[mazes\]"):
        gym.make("PointArena-v0")


@needs_mazes
@pytest.mark.parametrize("robot", ["Point", "Ant"])
@pytest.mark.parametrize("name", NAMES)
def test_mazes_are_checked(robot, name):
    env = gym.make(f"{robot}{name}-v0")
    assert env.spec.max_episode_steps == 500
    check_env(env.unwrapped, skip_render_check=True)
    check_env_of_sb3(env)
    env.close()


@needs_mazes
@pytest.mark.parametrize("robot", ["Point", "Ant"])
def test_tasks_of_a_robot_have_the_same_spaces(robot):
    envs = [gym.make(f"{robot}{name}-v0") for name in NAMES]
    assert len({str((env.observation_space, env.action_space)) for env in envs}) == 1
    assert all(env.observation_space == envs[0].observation_space for env in envs)


def drive(env, waypoints):
    """Steer the point to one place after the other"""
    observation, info = env.reset(seed=0)
    rewards = []
    for target in waypoints:
        for _ in range(150):
            action = np.clip(np.array(target) - observation[:2] - 0.1 * observation[2:], -1, 1)
            observation, reward, terminated, _, info = env.step(action.astype(np.float32))
            rewards.append(reward)
            assert not terminated
    return observation, rewards, info


@needs_mazes
def test_only_the_lower_passage_leads_below_the_threshold():
    env = gym.make("PointTwoPassages-v0").unwrapped
    assert env.goal == pytest.approx([2, 0]) and env.threshold == pytest.approx(0.5**0.5)
    observation, rewards, info = drive(env, [(-2, 1), (1.4, 0.6), (2.0, 0.0)])
    assert info["min_distance"] > env.threshold and max(rewards) < 0.9
    observation, rewards, info = drive(env, [(-2, -1), (2, -1), (2, 0)])
    assert info["min_distance"] < 0.2 and info["distance"] >= info["min_distance"]
    expected = np.exp(-(((observation[:2] - env.goal) ** 2).sum()) / (2 * 1.5**2))
    assert rewards[-1] == pytest.approx(expected) and rewards[-1] > 0.99 and rewards[0] < 0.05


@needs_mazes
@pytest.mark.parametrize(("name", "half_width"), [("NarrowHallway", 0.5), ("WideHallway", 1.5), ("Arena", np.inf)])
def test_hallways_have_walls_and_open_ends(name, half_width):
    env = gym.make(f"Point{name}-v0").unwrapped
    observation, rewards, info = drive(env, [(0, 20)])
    # The point stops at the wall, if there is one
    assert observation[1] < half_width and (observation[1] > 3) == (name == "Arena")
    assert (rewards[-1] < 0.1) == (name != "Arena") and "distance" not in info
    observation, _, _ = drive(env, [(20, 0), (20, 0)])
    assert observation[0] > 10.5


@needs_mazes
def test_speed_is_paid_in_any_direction():
    env = gym.make("PointArena-v0").unwrapped
    for action in ([1, 0], [-1, 0], [0.6, -0.8]):
        before, _ = env.reset()
        for _ in range(30):
            previous = before
            before, reward, *_ = env.step(np.array(action, np.float32))
        assert reward == pytest.approx(np.linalg.norm(before[:2] - previous[:2]) / 0.01) and reward > 3


@needs_mazes
@pytest.mark.parametrize("robot", ["Point", "Ant"])
def test_a_simulation_that_diverges_ends_the_episode(robot):
    """MuJoCo puts the robot back to the start, which must not look like a fast move"""
    env = gym.make(f"{robot}Arena-v0").unwrapped
    env.reset(seed=0)
    for _ in range(3):
        assert not env.step(env.action_space.sample())[2]
    env.robot.data.qpos[0] = 20.0
    env.robot.data.qvel[:] = np.nan
    observation, reward, terminated, *_ = env.step(env.action_space.sample())
    assert terminated and reward == 0 and np.isfinite(observation).all()


@needs_mazes
def test_the_ant_falls_on_its_back():
    env = gym.make("AntArena-v0").unwrapped
    env.reset(seed=0)
    assert env.step(np.zeros(8))[2] is False
    env.robot.data.qpos[3:7] = [0, 1, 0, 0]
    assert env.step(np.zeros(8))[2] is True


@needs_mazes
def test_a_policy_of_the_arena_starts_in_a_hallway():
    source = make_model("SoftQLearning", "PointArena-v0").learn(30)
    model = make_model("SoftQLearning", "PointNarrowHallway-v0").start_from(source).learn(30)
    assert model.replay_buffer.size() == 30


MAZES = [pytest.param(env_id, marks=needs_mazes) for env_id in ("PointTwoPassages-v0", "AntArena-v0")]


@pytest.mark.parametrize("env_id", ["SwimmerFinishLine-v0", *MAZES])
def test_training_continues_exactly(env_id, tmp_path):
    """The simulator is part of a checkpoint"""
    whole = make_model("SoftQLearning", gym.make(env_id)).learn(60)
    part = make_model("SoftQLearning", gym.make(env_id)).learn(40)
    save_checkpoint(part, tmp_path)
    loaded = load_checkpoint(SoftQLearning, tmp_path, gym.make(env_id)).learn(20, reset_num_timesteps=False)
    for name in ("observations", "rewards"):
        assert np.array_equal(getattr(loaded.replay_buffer, name)[:60], getattr(whole.replay_buffer, name)[:60])
