"""Small models, series to feed them, and the properties that several models share."""

import torch

from tsllm.models import build_model

LENGTH, HORIZON, CHANNELS = 32, 8, 3
NARROW = {"d_model": 8, "num_heads": 2, "num_layers": 2, "d_ff": 12}


def build(name, **options):
    """Builds a model in evaluation mode from seed 0."""
    torch.manual_seed(0)
    sizes = {"context_length": LENGTH, "prediction_length": HORIZON, "num_channels": CHANNELS}
    return build_model(name, **(sizes | options)).eval()


def draw(batch=2, length=LENGTH, channels=CHANNELS, seed=0):
    """Random walks [batch, length, channels]."""
    return torch.randn(batch, length, channels, generator=torch.Generator().manual_seed(seed)).cumsum(1)


def forecast(model, x, **more):
    """Predictions [batch, horizon, channels] without gradients."""
    with torch.no_grad():
        return model(past_values=x, **more).predictions


def check_equivariance(model):
    """f(a x + b) = a f(x) + b for a > 0, up to the constant in the deviation."""
    x = 30 * draw()
    a, b = torch.tensor([2.0, 0.5, 7.0]), torch.tensor([100.0, -50.0, 3.0])
    torch.testing.assert_close(forecast(model, a * x + b), a * forecast(model, x) + b, atol=1e-2, rtol=1e-4)


def check_channel_independence(model):
    """The forecast of a channel depends on that channel only."""
    x, changed = draw(), draw()
    changed[..., 1] += 5 * torch.randn(2, LENGTH)
    before, after = forecast(model, x), forecast(model, changed)
    assert torch.equal(before[..., [0, 2]], after[..., [0, 2]])
    assert not torch.allclose(before[..., 1], after[..., 1])
