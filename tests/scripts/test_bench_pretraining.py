import json

import pytest


@pytest.fixture
def bench(load_script):
    return load_script("bench_pretraining")


def test_the_warm_up_does_not_count_and_each_turn_holds_one_step_of_each(bench, monkeypatch):
    done, clock = [], iter(range(100))
    monkeypatch.setattr(bench.time, "process_time", lambda: float(next(clock)))
    found = bench.measure([lambda: done.append("a"), lambda: done.append("b")], turns=3)
    assert done == ["a", "b"] * (3 + bench.WARM_UP)
    assert found == [[1.0, 1.0]] * 3


def test_a_step_draws_and_trains_what_the_configuration_says(bench, tmp_path, monkeypatch, capsys):
    model = {"d_model": 16, "num_layers": 1, "num_heads": 2, "d_ff": 16, "head": "quantile"}
    config = tmp_path / "small.yaml"
    config.write_text(
        f"model: patchcast\nmodel_config: {json.dumps(model)}\ncontext_length: 32\nprediction_length: 8\n"
        "per_device_train_batch_size: 4\nmax_steps: 9\nlearning_rate: 1.0e-2\nseed: 1\n"
    )
    seen = []
    real = bench.StreamTrainer.training_step

    def spy(self, model, inputs, *args):
        seen.append((inputs["past_values"].shape[0], model.head.weight.detach().clone()))
        return real(self, model, inputs, *args)

    monkeypatch.setattr(bench.StreamTrainer, "training_step", spy)
    monkeypatch.setattr("sys.argv", ["bench", str(config), str(config), "--turns", "2"])
    bench.main()
    assert [count for count, _ in seen] == [4] * 2 * (2 + bench.WARM_UP)
    assert all(not weights.equal(later) for (_, weights), (_, later) in zip(seen[::2], seen[2::2], strict=False))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "1.000 of small's (1.000 to 1.000)" in lines[0]
