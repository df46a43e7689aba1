import pytest
import torch

from tests.models.properties import CHANNELS, HORIZON, LENGTH, build, check_equivariance, draw, forecast


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_forecast_is_a_map_of_the_last_state_of_torchs_own_cell(cell):
    model = build("recurrent", cell=cell, d_model=8, num_layers=1, num_time_features=2, instance_norm=False)
    x, marks = draw(), torch.rand(2, LENGTH, 2)
    reference = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[cell](CHANNELS + 2, 8)
    reference.load_state_dict({n: getattr(model.rnn, f"{n}_l0").detach() for n in reference.state_dict()})
    state = None
    with torch.no_grad():
        for t in range(LENGTH):
            state = reference(torch.cat([x[:, t], marks[:, t]], 1), state)
        last = state[0] if cell == "lstm" else state
        expected = model.projection(last).view(2, HORIZON, CHANNELS)
    torch.testing.assert_close(forecast(model, x, past_time_features=marks), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_scale_and_shift_carry_over(cell):
    check_equivariance(build("recurrent", cell=cell, d_model=8))


def test_every_step_of_the_context_counts():
    model = build("recurrent", d_model=8)
    x = draw().requires_grad_()
    model(past_values=x).predictions.sum().backward()
    assert (x.grad.abs().sum((0, 2)) > 0).all()


def test_an_unknown_cell_is_named():
    with pytest.raises(ValueError, match="unknown cell 'rnn'"):
        build("recurrent", cell="rnn")
