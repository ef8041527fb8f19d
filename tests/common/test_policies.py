import pytest
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from sb3_maxent import DSPG, SoftQLearning


class GivenModule(FlattenExtractor):
    def __init__(self, observation_space, module):
        super().__init__(observation_space)
        self.module = module

    def forward(self, observations):
        return self.module(super().forward(observations))


@pytest.mark.parametrize(
    ("algorithm", "env"), [(DSPG, "Pendulum-v1"), (SoftQLearning, "Pendulum-v1"), (SoftQLearning, "CartPole-v1")]
)
def test_networks_have_no_parameter_in_common(algorithm, env):
    """One module for actor, critic and target would follow the gradient of both, and the target would not lag behind"""
    n_features = 4 if env == "CartPole-v1" else 3
    kwargs = {"module": nn.Linear(n_features, n_features)}
    with pytest.raises(ValueError, match="actor, critic and target critic have parameters in common"):
        algorithm(
            "MlpPolicy", env, policy_kwargs={"features_extractor_class": GivenModule, "features_extractor_kwargs": kwargs}
        )


def test_networks_may_have_a_frozen_module_in_common():
    module = nn.Linear(3, 3).requires_grad_(False)
    before = module.weight.clone()
    arguments = {"features_extractor_class": GivenModule, "features_extractor_kwargs": {"module": module}}
    model = DSPG("MlpPolicy", "Pendulum-v1", policy_kwargs=arguments, learning_starts=10, buffer_size=50).learn(30)
    assert model.critic_target.features_extractor.module is model.actor.features_extractor.module is module
    assert (module.weight == before).all()
