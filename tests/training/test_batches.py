import pytest
import torch

from tsllm.training.batches import FILLER, BatchCollator, GlobalBatches, OrderedBatches, PaddedWindows, build_loader


def windows(count=7):
    class Windows:
        def __len__(self):
            return count

        def gather(self, indices):
            values = indices.float()[:, None, None]
            return {"past_values": values, "future_values": values + 100, "past_time_features": values}

    return Windows()


def shares(length, batch_size, world_size, seed=0, epoch=0):
    samplers = [GlobalBatches(length, batch_size, seed, world_size, rank) for rank in range(world_size)]
    for sampler in samplers:
        sampler.epoch = epoch
    return [list(sampler) for sampler in samplers]


@pytest.mark.parametrize("length", [8, 9, 11, 1, 3])
def test_two_processes_take_the_global_batches_of_one(length):
    (one,) = shares(length, 4, 1)
    first, second = shares(length, 2, 2)
    assert len(one) == len(first) == len(second) == -(-length // 4)
    for whole, left, right in zip(one, first, second, strict=True):
        assert sorted(whole) == sorted(left + right)


def test_every_window_comes_once_an_epoch_in_an_order_of_its_own():
    first, again, other_seed = shares(50, 8, 1), shares(50, 8, 1), shares(50, 8, 1, seed=1)
    second = shares(50, 8, 1, epoch=1)
    assert sorted(window for batch in first[0] for window in batch) == list(range(50))
    assert first == again
    assert first != second
    assert first != other_seed


def test_seeds_and_epochs_do_not_share_orders():
    assert shares(50, 8, 1, seed=1, epoch=0) != shares(50, 8, 1, seed=0, epoch=1)


@pytest.mark.parametrize("length", [12, 13, 14, 1, 5])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ordered_shares_are_of_one_size_and_in_order_but_for_fillers_at_the_end(length, world_size):
    processes = [list(OrderedBatches(length, 2, world_size, rank)) for rank in range(world_size)]
    gathered = []
    for shares_of_a_batch in zip(*processes, strict=True):
        assert len({len(share) for share in shares_of_a_batch}) == 1
        gathered += [window for share in shares_of_a_batch for window in share]
    assert gathered[:length] == list(range(length))
    assert set(gathered[length:]) <= {FILLER}
    assert len(processes[0]) == len(OrderedBatches(length, 2, world_size))


def test_fillers_and_empty_shares_are_windows_without_targets():
    dataset = PaddedWindows(windows())
    empty = dataset.__getitems__([])
    assert torch.isnan(empty["future_values"]).all()
    assert empty["past_values"].shape == (1, 1, 1)
    mixed = dataset.__getitems__([3, FILLER, 1])
    assert mixed["past_values"].flatten().tolist() == [3.0, 0.0, 1.0]
    assert torch.isnan(mixed["future_values"].flatten()).tolist() == [False, True, False]
    assert dataset.__getitems__([3, 1])["future_values"].flatten().tolist() == [103.0, 101.0]


def test_the_loader_hands_on_the_tensors_that_the_model_reads():
    batches = GlobalBatches(7, 4, 0)
    loader = build_loader(PaddedWindows(windows()), batches, BatchCollator(["past_values", "future_values"]))
    found = list(loader)
    assert [sorted(b) for b in found] == [["future_values", "past_values"]] * 2
    assert [b["past_values"].flatten().long().tolist() for b in found] == list(batches)


def test_an_empty_training_set_is_an_error():
    with pytest.raises(ValueError, match="no window"):
        GlobalBatches(0, 4, 0)
