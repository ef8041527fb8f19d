"""On a GPU: ``python -m pytest -m gpu``. Its speed: ``python -m benchmarks.speed --device cuda``."""

import pytest
import torch as th

from tests.models import VARIANTS, make_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not th.cuda.is_available(), reason="there is no GPU")]


def on_device(value, device):
    if isinstance(value, th.Tensor):
        return value.to(device)
    return type(value)(*(on_device(each, device) for each in value)) if isinstance(value, tuple) else value


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("compile", [False, True])
def test_an_update_is_that_of_the_cpu(variant, compile, tmp_path):
    """To rounding; one more update is the control"""
    cpu = make_model(variant, device="cpu", learning_rate=1e-2).learn(40)
    cpu.save(tmp_path / "model")
    gpu = type(cpu).load(tmp_path / "model", device="cuda", compile=compile)
    replay_data, noise = cpu.replay_buffer.sample(8), cpu._draw_noise(8)
    metrics = cpu._update(replay_data, noise)
    others = gpu._update(on_device(replay_data, "cuda"), on_device(noise, "cuda"))
    for name, value in metrics.items():
        assert others[name].device.type == "cuda"
        assert others[name].item() == pytest.approx(value.item(), rel=2e-4, abs=1e-4), name
    again = cpu._update(replay_data, noise)
    assert again["critic_loss"].item() != pytest.approx(metrics["critic_loss"].item(), rel=2e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_train_there_and_act_here(variant, tmp_path):
    model = make_model(variant, device="cuda").learn(40)
    assert {parameter.device.type for parameter in model.policy.parameters()} == {"cuda"}
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", device="cpu")
    observations = model.get_env().reset()
    actions = [each.predict(observations, deterministic=True)[0] for each in (model, loaded)]
    assert actions[0] == pytest.approx(actions[1], abs=1e-4)
