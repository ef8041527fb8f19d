"""What all actors share: they make several actions per state from noise."""

from collections.abc import Callable

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_maxent.common.distributions import draw_noise
from sb3_maxent.common.observations import batch_size_of


def check_random(deterministic: bool) -> None:
    """
    Refuse to act deterministically without the critic.

    :param deterministic: Whether a deterministic action is asked for
    :raises ValueError: If it is
    """
    if deterministic:
        raise ValueError(
            "deterministic=True chooses the action by its Q-value, but the actor does not know Q-values: call "
            "model.predict(observation, deterministic=True) or policy(observation, deterministic=True)"
        )


class SampledActor:
    """Mixin of all actors: it makes several actions per state from noise."""

    # Components of the noise that one action takes, and what draws it
    noise_dim: int
    noise_generator: Callable[..., th.Tensor] = staticmethod(th.randn)
    device: th.device

    def draw_noise(self, batch_size: int, n_samples: int) -> th.Tensor:
        """
        Draw the noise of several actions per state. It is standard normal, or uniform in [0, 1) where ``noise_generator`` is
        ``th.rand``.

        :param batch_size: Number of states
        :param n_samples: Number of actions per state
        :return: Noise, not contiguous, shape (batch, samples, ``noise_dim``)
        """
        return draw_noise(self.noise_generator, batch_size, n_samples, self.noise_dim, self.device)

    def actions_from_noise(self, obs: PyTorchObs, noise: th.Tensor) -> th.Tensor:
        """
        Turn noise into actions.

        :param obs: Observations, shape (batch, ...)
        :param noise: Noise as :meth:`draw_noise` draws it, shape (batch, samples, ``noise_dim``)
        :return: Actions in [-1, 1] or choices, shape (batch, samples, action), or numbers of actions, shape (batch, samples)
        """
        raise NotImplementedError

    def sample_actions(self, obs: PyTorchObs, n_samples: int) -> th.Tensor:
        """
        Draw several actions per state.

        :param obs: Observations, shape (batch, ...)
        :param n_samples: Number of actions per state
        :return: Actions in [-1, 1] or choices, shape (batch, samples, action), or numbers of actions, shape (batch, samples)
        """
        return self.actions_from_noise(obs, self.draw_noise(batch_size_of(obs), n_samples))
