"""Critics that are evaluated at many actions per state."""

import math
from typing import ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_maxent.common.checks import SMALLEST, check_count
from sb3_maxent.common.discrete import choices_of, joint_actions, one_hot
from sb3_maxent.common.hybrid import encode_hybrid
from sb3_maxent.common.hybrid_space import HybridBox
from sb3_maxent.common.observations import join_batches
from sb3_maxent.common.q_network import QNetwork
from sb3_maxent.common.types import ActionSamples, CriticOutput
from sb3_maxent.functional import critic_loss, soft_value


class MultiActionCritic(BaseModel):
    """
    Critic networks with one features extractor, evaluated at one or many actions per state.

    It replaces SB3's ``ContinuousCritic``, and is the same function with ``action_layer=0``. A subclass may replace the
    networks (``network_class``), their loss, how several networks become one value, the soft value of the target, and what is
    evaluated together (:meth:`evaluate`). The algorithm does not know which critic it trains.

    :param observation_space: Observation space
    :param action_space: Action space, see :meth:`encode`
    :param net_arch: Widths of the hidden layers of each network
    :param features_extractor: Network to extract features
    :param features_dim: Number of features
    :param activation_fn: Activation function
    :param normalize_images: Whether to divide images by 255
    :param n_critics: Number of critic networks
    :param share_features_extractor: Whether the features extractor is the actor's, which the critic loss must not move
    :param action_layer: Index of the hidden layer that the action enters, see :class:`~sb3_maxent.common.q_network.QNetwork`
    :param evaluation_precision: Precision of evaluations without gradient, see :class:`~sb3_maxent.common.q_network.QNetwork`
    :param batch_norm: Whether to normalise features and hidden layers, see :class:`~sb3_maxent.common.q_network.QNetwork`
    :param unit_norm: Whether the weights into each hidden unit have norm 1 after every step. Batch normalisation makes their
        scale meaningless. Without ``unit_norm`` it grows all the same, which makes the steps smaller
    :raises ValueError: If there is no critic, no such layer or no such precision
    """

    network_class: ClassVar[type[QNetwork]] = QNetwork
    features_extractor: BaseFeaturesExtractor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        net_arch: list[int],
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        n_critics: int = 2,
        share_features_extractor: bool = True,
        action_layer: int = 0,
        evaluation_precision: str = "float32",
        batch_norm: bool = False,
        unit_norm: bool = False,
    ):
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        check_count(n_critics, "n_critics")
        if unit_norm and not batch_norm:
            raise ValueError("unit_norm=True: without batch_norm=True the scale of the weights has a meaning")
        self.batch_norm, self.unit_norm, self.share_features_extractor = batch_norm, unit_norm, share_features_extractor
        self.choices = choices_of(action_space)
        self.action_dim = spaces.flatdim(action_space)
        if isinstance(action_space, HybridBox):
            self.action_dim += sum(self.choices) - len(self.choices)  # inputs: a choice becomes a one-hot vector
        arguments = (features_dim, self.action_dim, net_arch, activation_fn, action_layer, evaluation_precision, batch_norm)
        self.q_networks = nn.ModuleList(self.network_class(*arguments) for _ in range(n_critics))
        self.after_step()

    @th.no_grad()
    def after_step(self) -> None:
        """Restore the norms of trained weights, with ``unit_norm``: once made, and after each step (arXiv 2509.25174)."""
        for network in self.q_networks if self.unit_norm else ():
            for weight in network.hidden_weights():  # type: ignore[operator]
                if weight.requires_grad:
                    weight.div_(th.linalg.vector_norm(weight, dim=1, keepdim=True).clamp_min(SMALLEST))

    def forward(self, obs: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        Q-values of one action per state, from every network, as in SB3.

        :param obs: Observations, shape (batch, ...)
        :param actions: Actions in [-1, 1] or choices, shape (batch, action), or numbers of actions, shape (batch, 1)
        :return: One tensor of shape (batch, 1) per network
        """
        return tuple(self.predictions(self.embed(obs), self.one_sample(actions)))

    def q1_forward(self, obs: PyTorchObs, actions: th.Tensor) -> th.Tensor:
        """
        Q-values of one action per state from the first network, as in SB3.

        :param obs: Observations, shape (batch, ...)
        :param actions: Actions in [-1, 1] or choices, shape (batch, action), or numbers of actions, shape (batch, 1)
        :return: Q-values, shape (batch, 1)
        """
        return self(obs, actions)[0]

    def embed(self, obs: PyTorchObs) -> list[th.Tensor]:
        """
        Embed the states once, for all actions of each state.

        :param obs: Observations, shape (batch, ...)
        :return: One tensor of shape (batch, 1, join) per network
        """
        # The actor loss alone trains a shared extractor
        with th.set_grad_enabled(th.is_grad_enabled() and not self.share_features_extractor):
            features = self.extract_features(obs, self.features_extractor)  # (batch, features)
        return [q_network.embed(features) for q_network in self.q_networks]  # type: ignore[operator]

    def predictions(self, embedding: list[th.Tensor], actions: th.Tensor) -> th.Tensor:
        """
        Evaluate each network at several actions per state.

        :param embedding: Embedding of the states
        :param actions: Actions in [-1, 1] or choices, shape (batch, samples, action), or numbers, shape (batch, samples)
        :return: Shape (networks, batch, samples); with a further dimension where a network has several outputs
        """
        actions = self.encode(actions).to(embedding[0].dtype)  # (batch, samples, inputs)
        return th.stack([network(part, actions) for network, part in zip(self.q_networks, embedding, strict=True)])

    def encode(self, actions: th.Tensor) -> th.Tensor:
        """
        Turn actions into inputs of the networks.

        ``Box`` actions stay as they are. Of ``Discrete`` and ``MultiDiscrete`` actions these are the one-hot vectors of the
        choices, one after the other, and of ``MultiBinary`` actions the bits as -1 and 1. So there are as many as the sum of
        the numbers of choices, not their product. Of a ``HybridBox`` these are its real numbers and the one-hot vectors.

        :param actions: Actions, as for :meth:`predictions`
        :return: Inputs, shape (batch, samples, inputs)
        """
        if isinstance(self.action_space, spaces.MultiBinary):
            return 2.0 * actions - 1.0
        if isinstance(self.action_space, HybridBox):
            return encode_hybrid(actions, self.choices)
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.unsqueeze(2)  # (batch, samples, 1)
        return one_hot(actions, self.choices) if self.choices else actions

    def value(self, predictions: th.Tensor) -> th.Tensor:
        """
        Turn the predictions of the networks into one value per action: the smallest one.

        :param predictions: ``predictions`` of the actions, shape (networks, batch, samples)
        :return: Q-values, shape (batch, samples)
        """
        return predictions.amin(dim=0)

    def q_values(self, embedding: list[th.Tensor], actions: th.Tensor) -> th.Tensor:
        """
        Q-values of several actions per state, with the networks in evaluation mode.

        :param embedding: Embedding of the states
        :param actions: Actions in [-1, 1] or choices, shape (batch, samples, action), or numbers, shape (batch, samples)
        :return: Q-values, shape (batch, samples)
        """
        return self.value(self._predictions_in_evaluation_mode(embedding, actions))  # (batch, samples)

    def mean_q_values(self, embedding: list[th.Tensor], actions: th.Tensor) -> th.Tensor:
        """
        As :meth:`q_values`, but the mean over the networks of each one's value, as in https://arxiv.org/abs/2101.05982.

        :param embedding: Embedding of the states
        :param actions: As for :meth:`q_values`
        :return: Q-values, shape (batch, samples)
        """
        predictions = self._predictions_in_evaluation_mode(embedding, actions)  # (networks, batch, samples)
        return th.stack([self.value(each) for each in predictions.split(1)]).mean(dim=0)  # (batch, samples)

    def _predictions_in_evaluation_mode(self, embedding: list[th.Tensor], actions: th.Tensor) -> th.Tensor:
        # Batch normalisation must not take its statistics from the many actions of the policy
        training = self.q_networks.training
        self.q_networks.eval()
        predictions = self.predictions(embedding, actions)  # (networks, batch, samples)
        self.q_networks.train(training)
        return predictions

    def evaluate(
        self,
        target: "MultiActionCritic",
        obs: PyTorchObs,
        actions: th.Tensor,
        next_obs: PyTorchObs,
        next_actions: th.Tensor,
    ) -> CriticOutput:
        """
        Compute what the losses of one update need.

        :param target: Target networks, this critic itself if there are none
        :param obs: Observations, shape (batch, ...)
        :param actions: Actions of the replay buffer, shape (batch, action), or numbers of actions, shape (batch, 1)
        :param next_obs: Next observations, shape (batch, ...)
        :param next_actions: Actions in the next states, as for :meth:`predictions`
        :return: Predictions, and the embedding of the states
        """
        evaluate = self._evaluate_jointly if target is self or self.batch_norm else self._evaluate_apart
        return evaluate(target, obs, actions, next_obs, next_actions)

    def _evaluate_apart(
        self, target: "MultiActionCritic", obs: PyTorchObs, actions: th.Tensor, next_obs: PyTorchObs, next_actions: th.Tensor
    ) -> CriticOutput:
        with th.no_grad():
            next_predictions = target.predictions(target.embed(next_obs), next_actions)  # (networks, batch, samples)
        embedding = self.embed(obs)
        predictions = self.predictions(embedding, self.one_sample(actions))  # (networks, batch, 1)
        return CriticOutput(predictions, [part.detach() for part in embedding], next_predictions)

    def _evaluate_jointly(
        self, target: "MultiActionCritic", obs: PyTorchObs, actions: th.Tensor, next_obs: PyTorchObs, next_actions: th.Tensor
    ) -> CriticOutput:
        """
        Evaluate both pairs in one pass of each network, so that one batch normalisation fits them both.

        The statistics are taken over one action of the replay buffer and one next action per state. Target networks see the
        same batch, as in XQC. Several next actions are evaluated in evaluation mode, by target networks with this batch's
        statistics (see ``layers.follow_each_batch``).

        Papers: https://arxiv.org/abs/1902.05605 (section 3.2), https://arxiv.org/abs/2509.25174
        """
        batch_size, n_samples = next_actions.shape[:2]
        # State i gives its next action number i % samples: the first of all discrete actions is always the same
        states = th.arange(batch_size, device=next_actions.device)
        one_each = next_actions[states, states % n_samples].unsqueeze(1)  # (batch, 1, action)
        both_obs, both_actions = join_batches(obs, next_obs), th.cat([self.one_sample(actions), one_each])
        embedding = self.embed(both_obs)
        predictions = self.predictions(embedding, both_actions)  # (networks, 2 * batch, 1)
        detached = [part.detach() for part in embedding]
        target_embedding, target_predictions = detached, predictions.detach()
        if target is not self:
            target.q_networks.train()
            with th.no_grad():
                target_embedding = target.embed(both_obs)
                target_predictions = target.predictions(target_embedding, both_actions)  # (networks, 2 * batch, 1)
            target.q_networks.eval()
        next_predictions = target_predictions[:, batch_size:]  # (networks, batch, 1)
        if n_samples > 1:
            next_embedding = [part[batch_size:] for part in target_embedding]
            with th.no_grad():
                next_predictions = target._predictions_in_evaluation_mode(next_embedding, next_actions)
        return CriticOutput(predictions[:, :batch_size], [part[:batch_size] for part in detached], next_predictions)

    def soft_value(self, predictions: th.Tensor, samples: ActionSamples, ent_coef: th.Tensor) -> th.Tensor:
        """
        Soft value of a policy from several of its actions per state.

        :param predictions: ``predictions`` of the actions, shape (networks, batch, samples)
        :param samples: The actions
        :param ent_coef: Entropy coefficient
        :return: Soft value, shape (batch, 1), or (batch, values) for a critic that learns a distribution
        """
        return soft_value(self.value(predictions), samples.log_prob, ent_coef, samples.weights)  # (batch, 1), eq. 15

    def loss(self, predictions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """
        Loss of the critic: the squared Bellman error.

        :param predictions: ``predictions`` of the actions in the replay buffer, shape (networks, batch, 1)
        :param target: Target without gradient, shape (batch, 1)
        :return: Loss, a scalar
        """
        return critic_loss(predictions.unbind(), target)  # (), eq. 16

    def one_sample(self, actions: th.Tensor) -> th.Tensor:
        """
        Turn one action per state into one sample per state.

        :param actions: Actions in [-1, 1] or choices, shape (batch, action), or numbers of actions, shape (batch, 1)
        :return: Actions, shape (batch, 1, action), or numbers of actions, shape (batch, 1)
        """
        return actions if isinstance(self.action_space, spaces.Discrete) else actions.unsqueeze(1)

    def actions_of(self, numbers: th.Tensor) -> th.Tensor:
        """
        Turn numbers of the actions of a discrete space into actions.

        :param numbers: Numbers of (joint) actions, shape (batch, samples)
        :return: The same for a ``Discrete`` space, otherwise choices, shape (batch, samples, action)
        """
        return numbers if isinstance(self.action_space, spaces.Discrete) else joint_actions(numbers, self.choices)

    def all_actions(self, batch_size: int) -> th.Tensor:
        """
        Every (joint) action of a discrete space, for each of several states.

        :param batch_size: Number of states
        :return: Numbers of actions, shape (batch, actions), or choices, shape (batch, actions, action)
        """
        return self.actions_of(th.arange(math.prod(self.choices), device=self.device).expand(batch_size, -1))
