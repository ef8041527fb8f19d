"""
Record a GIF of a trained agent.

    MUJOCO_GL=egl python examples/8_gif.py HalfCheetah-v5 logs/dspg/HalfCheetah-v5_1/best_model.zip half_cheetah.gif
    MUJOCO_GL=egl python examples/8_gif.py AntArena-v0 logs/ant/final.zip ant.gif softqlearning

The variable ``MUJOCO_GL`` (``egl`` or ``osmesa``) is for MuJoCo tasks on a machine without a screen. Unlike RL Zoo's
``record_video``, the script writes a small file, and follows the robot of Gymnasium's MuJoCo tasks with the camera.
"""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_maxent import DSPG, SoftQLearning

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"dspg": DSPG, "softqlearning": SoftQLearning}
SIZE, N_COLORS = 300, 32
# Keep every second frame. The GIF plays at the true speed
STRIDE = 2
N_STEPS = 160


def record(model: BaseAlgorithm, env_id: str, n_steps: int) -> tuple[list[np.ndarray], float]:
    """
    Act deterministically in one episode.

    :param model: Trained model
    :param env_id: Environment ID
    :param n_steps: Largest number of steps
    :return: Images, shape (height, width, 3) each, and the time between two of them in seconds
    """
    mujoco = "mujoco" in str(gym.spec(env_id).entry_point)
    env = gym.make(env_id, render_mode="rgb_array", **({"camera_name": "track"} if mujoco else {}))
    observation, _ = env.reset(seed=0)
    frames = [env.render()]
    for _ in range(n_steps):
        action, _ = model.predict(observation, deterministic=True)
        observation, _, terminated, truncated, _ = env.step(action)
        frames.append(env.render())
        if terminated or truncated:
            break
    env.close()
    return frames[::STRIDE], STRIDE / env.metadata["render_fps"]


def write_gif(frames: list[np.ndarray], seconds: float, path: str | Path) -> None:
    """
    Write a small GIF: few pixels, and one palette of few colours for all images.

    :param frames: Images, shape (height, width, 3) each
    :param seconds: Time between two images
    :param path: File to write
    """
    images = [Image.fromarray(frame).resize((SIZE, SIZE), Image.Resampling.LANCZOS) for frame in frames]
    palette = images[len(images) // 2].quantize(N_COLORS)
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 * seconds), loop=0, optimize=True)


if __name__ == "__main__":
    env_id, model_path, gif_path, *name = sys.argv[1:]
    model = ALGORITHMS[name[0] if name else "dspg"].load(model_path, device="cpu")
    write_gif(*record(model, env_id, N_STEPS), gif_path)
