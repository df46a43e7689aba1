import io

import pytest
import torch

from tsllm.training.schedules import EPOCH_SCHEDULES, build_epoch_schedule


def rates(name, epochs, steps_per_epoch=3):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = build_epoch_schedule(name, optimizer, steps_per_epoch, epochs)
    found = []
    for _ in range(epochs * steps_per_epoch):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_type1_halves_from_the_third_epoch_on_and_only_between_epochs():
    assert rates("type1", 4) == [1.0] * 6 + [0.5] * 3 + [0.25] * 3


def test_type3_keeps_four_epochs():
    assert rates("type3", 6, 1) == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.9, 0.81])


def test_epoch_cosine_falls_from_the_full_rate():
    assert rates("epoch_cosine", 4, 1) == pytest.approx([1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


@pytest.mark.parametrize("name", EPOCH_SCHEDULES.names())
def test_its_state_loads_without_pickled_code(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_epoch_schedule(name, optimizer, 2, 3)
    buffer = io.BytesIO()
    torch.save(schedule.state_dict(), buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    assert loaded["last_epoch"] == schedule.state_dict()["last_epoch"]
    schedule.load_state_dict(loaded)


def test_an_unknown_schedule_is_an_error():
    with pytest.raises(KeyError, match="did you mean 'type1'"):
        EPOCH_SCHEDULES.get("typ1")
