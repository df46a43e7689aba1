import json

import pytest
import torch


@pytest.fixture
def trial(load_script):
    return load_script("trial_prototypes")


@pytest.fixture
def quality(load_script):
    return load_script("time_to_quality")


@pytest.fixture
def words(tiny_backbone, data_folder, tmp_path):
    """The options of a run on tiny shapes."""
    options = {"context": 64, "horizon": 12, "layers": 1, "prototypes": 150, "batch": 4, "windows": 6, "steps": 2}
    options |= {"every": 1, "max-steps": 3, "threads": 1, "backbone": tiny_backbone, "seeds": 0}
    options |= {"data": data_folder / "ETTh1.csv", "output": tmp_path / "runs" / "trial.jsonl"}
    return [str(word) for name, value in options.items() for word in (f"--{name}", value)]


def read_rows(tmp_path):
    return [json.loads(line) for line in (tmp_path / "runs" / "trial.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("mode", ["direct", "gram", "frozen"])
def test_all_modes_start_as_the_mapping_layer_does(mode, trial, words):
    arguments = trial.parse([*words, "--trials"])
    x = torch.randn(3, 64, 1)
    with torch.no_grad():
        expected = trial.build(arguments, "mapping", None, 3).eval()(past_values=x).predictions
        found = trial.build(arguments, mode, None, 3).eval()(past_values=x).predictions
        other = trial.build(arguments, mode, "words", 3).eval()(past_values=x).predictions
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(other, expected, rtol=1e-3, atol=1e-3)


def test_the_default_starts_with_the_values_of_the_slow_mode(quality, words):
    arguments = quality.parse([*words, "--slow-every", "1"])
    arguments.folder = arguments.backbone
    slow, default = (dict(quality.build(arguments, mode, 5).named_parameters()) for mode in ("slow", "default"))
    prototypes = default.pop("prototypes.prototypes")
    assert all(torch.equal(value, slow[name]) for name, value in default.items())
    weight, bias = slow["prototypes.mapping.weight"], slow["prototypes.mapping.bias"]
    torch.testing.assert_close(prototypes, weight @ slow["backbone.llm.wte.weight"] + bias[:, None])


def test_centroids_are_the_means_of_the_words_nearest_to_them(trial):
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(60, 4, generator=generator)
    centroids = trial.find_centroids(words, 5, generator, rounds=50)
    nearest = torch.cdist(words, centroids).argmin(1)
    for k in range(5):
        torch.testing.assert_close(centroids[k], words[nearest == k].mean(0))


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_an_orthogonal_update_keeps_the_directions_and_levels_the_sizes(shape, trial):
    matrix = torch.randn(shape)
    left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
    assert sizes.max() > 1.5 * sizes.min()
    update = left.T @ trial.orthogonalise(matrix) @ right.T
    torch.testing.assert_close(update, torch.diag(update.diagonal()), atol=1e-4, rtol=0)
    assert ((update.diagonal() > 0.6) & (update.diagonal() < 1.3)).all()


def test_equal_steps_and_equal_time_equal_those_worked_by_hand(trial):
    def row(name, seed, curve):
        return {"trial": name, "seed": seed, "curve": curve, "cpu": curve[-1][1]}

    rows = [
        row("mapping:1e-3", 0, [[1, 10, 0.9], [2, 20, 0.8]]),
        row("mapping:1e-3", 1, [[1, 12, 1.0], [2, 24, 1.2]]),  # the budget is the median, 22
        row("direct:1e-3", 0, [[1, 2, 0.95], [2, 4, 0.9], [9, 22, 0.7], [10, 24, 0.1]]),
        row("direct:1e-3", 1, [[1, 2, 1.1], [2, 4, 1.3], [9, 21, 1.0]]),
    ]
    assert trial.find_budget(rows, 2) == 22
    mapping, direct = trial.summarize(rows, 2)
    assert (mapping["equal_steps"], mapping["equal_time"], mapping["reached"]) == ([0.8, 1.0], [0.8, 1.0], True)
    assert (direct["equal_steps"], direct["equal_time"], direct["reached"]) == ([0.9, 1.1], [0.7, 1.0], False)
    assert direct["cpu"] == 4


def test_the_time_to_a_target_equals_that_worked_by_hand(quality):
    rows = [
        {"mode": "slow", "rate": 1e-3, "seed": 0, "curve": [[50, 40, 44, 0.5], [100, 80, 88, 0.6]]},
        {"mode": "default", "rate": 1e-3, "seed": 0, "curve": [[10, 2, 4, 0.7], [20, 5, 8, 0.58], [30, 8, 11, 0.4]]},
        {"mode": "default", "rate": 3e-3, "seed": 0, "curve": [[10, 4, 4, 0.55], [20, 9, 8, 0.52]]},
    ]
    (last,) = quality.summarize(rows, "last")
    assert (last["target"], last["rate"], last["step"], last["cpu_ratio"], last["wall_ratio"]) == (
        0.6,
        3e-3,
        10,
        20,
        22,
    )
    (best,) = quality.summarize(rows, "best")
    assert (best["target"], best["rate"], best["step"], best["cpu_ratio"], best["wall_ratio"]) == (0.5, 1e-3, 30, 5, 4)
    (never,) = quality.summarize([rows[0], rows[2]], "best")
    assert (never["met"], never["best"]) == (False, 0.52)


def test_trials_go_on_where_they_were_stopped(trial, words, tmp_path, capsys):
    trial.main([*words, "--trials", "mapping:1e-3"])
    trial.main([*words, "--trials", "mapping:1e-3", "direct@kmeans+orthogonal:1e-3", "frozen"])
    first = read_rows(tmp_path)
    assert [row["trial"] for row in first] == ["mapping:1e-3", "direct@kmeans+orthogonal:1e-3", "frozen"]
    assert [point[0] for point in first[0]["curve"]] == [1, 2]
    trial.main([*words, "--trials"])
    assert read_rows(tmp_path) == first
    assert capsys.readouterr().out.count("| frozen | 1 |") == 2
    trial.main([*words, "--lr", "1e-4", "--trials", "frozen"])  # another setting is another run
    assert len(read_rows(tmp_path)) == 4


def test_the_time_to_quality_is_measured_from_one_start_and_goes_on(quality, words, tmp_path, capsys):
    words += ["--slow-every", "1", "--modes", "default", "no-prompt"]
    quality.main(words)
    rows = read_rows(tmp_path)
    assert [row["mode"] for row in rows] == ["slow", "default", "no-prompt"]
    slow, default = rows[0]["curve"], rows[1]["curve"]
    assert [point[0] for point in slow] == [1, 2]
    assert rows[1]["target"] == min(point[3] for point in slow)
    assert len(default) == 3 or default[-1][3] <= rows[1]["target"]
    quality.main(words)
    assert read_rows(tmp_path) == rows
    assert "default, last: median ratio" in capsys.readouterr().out


def test_a_trial_that_means_nothing_is_refused(trial, words, capsys):
    with pytest.raises(SystemExit):
        trial.parse([*words, "--trials", "direct@centroids:1e-3"])
    assert "'direct@centroids:1e-3' is none of" in capsys.readouterr().err
