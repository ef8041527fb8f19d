"""Images of tasks."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled


def draw_image(draw: Callable[[Any], None]) -> np.ndarray:
    """
    Draw an image with matplotlib.

    :param draw: Function that draws on matplotlib's axes, which are the whole image
    :return: Image, shape (height, width, 3)
    :raises DependencyNotInstalled: If matplotlib is missing
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyNotInstalled("Rendering this task needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(4, 4))
    canvas = FigureCanvasAgg(figure)
    draw(figure.add_axes((0, 0, 1, 1)))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
