import numpy as np
import torch as th

from benchmarks.held_noise import HoldNoise
from sb3_maxent import DSPG


def test_actions_of_a_rollout_share_their_noise():
    model = DSPG("MlpPolicy", "Pendulum-v1", learning_starts=2, batch_size=8, policy_kwargs={"net_arch": [8]}, seed=3)
    actor, drawn = model.policy.actor, []
    actions_from_noise = actor.actions_from_noise
    actor.actions_from_noise = lambda obs, noise: drawn.append(noise.clone()) or actions_from_noise(obs, noise)
    # An update that got this noise would fail: it asks for that of eight states
    model.learn(10, HoldNoise(steps=3))
    noise = th.cat(drawn).flatten()  # one number for each of the eight actions that the policy chose
    assert len(noise) == 8
    groups = np.split(noise.numpy(), [3, 6])
    assert [len(set(group)) for group in groups] == [1, 1, 1] and len(set(noise.tolist())) == 3
    # Afterwards the actor draws new noise again
    assert not th.equal(actor.draw_noise(1, 1), actor.draw_noise(1, 1))
