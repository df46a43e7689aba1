import json
import math
from pathlib import Path

import pytest
import torch

from tests.scripts.conftest import SCRIPTS

EXTERNAL = SCRIPTS / "external_linear.py"
LIAR = """
import json, sys
import numpy as np
for line in sys.stdin:
    request = json.loads(line)
    print("loading weights", flush=True)
    if request["do"] == "infer":
        np.save(request["forecast"], np.load(request["x"])[:, :HORIZON])
    print(json.dumps(ANSWER), flush=True)
"""


@pytest.fixture
def bench(load_script):
    return load_script("bench_timellm")


@pytest.fixture
def run(bench, tiny_backbone, tmp_path):
    """Runs the program on tiny shapes and returns what it wrote."""

    def main(name, *options):
        words = ["--quick", "--backbone", tiny_backbone, "--threads", 1, "--output", tmp_path, "--no-memory", *options]
        bench.main(list(map(str, words)))
        return json.loads((tmp_path / f"{name}.json").read_text())

    return main


def build_external(load_script, bench, tiny_backbone, path):
    sizes = bench.parse(["--quick", "--backbone", tiny_backbone, "--threads", "1"])
    return load_script("timellm_external").External(Path(path), sizes, tiny_backbone), sizes


def test_medians_and_paired_ratios_equal_those_worked_by_hand(bench):
    seconds = {"slow": [(8.0, 9.0), (4.0, 5.0), (6.0, 7.0)], "default": [(2.0, 3.0), (2.0, 1.0), (1.0, 1.0)]}
    stages = [{"backward": 1.0}, {"backward": 0.5, "head": 0.5}, {"backward": 0.25}]
    rows = {n: {"train": s, "infer": s, "train_stages": stages, "infer_stages": [{}]} for n, s in seconds.items()}
    slow, default = bench.summarize(rows)
    assert slow["train_cpu"] == 6
    assert default["train_cpu"] == 2
    assert default["train_cpu_ratio"] == 4  # of 4, 2 and 6
    assert default["train_wall_ratio_range"] == [3, 7]
    assert default["train_stages"] == {"backward": 0.5, "head": 0.0, "other": 1.0}  # rest: 1, 1 and 0.75
    assert default["infer_stages"] == {}
    aims = bench.compare_with_aims([slow | {"peak_mb": 100}, default | {"peak_mb": 36}])
    assert [(a["found"], a["reached"]) for a in aims] == [(4, True), (4, True), (0.36, False)]


def test_every_variant_and_the_external_program_are_measured_in_pairs(run, tmp_path):
    report = run("bench_timellm", "--repeats", 2, "--external", EXTERNAL)
    table = {row["variant"]: row for row in report["table"]}
    assert list(table) == ["slow", "default", "seen", "series", "none", "no-prompt", "external"]
    for name, row in table.items():
        assert len(report["rounds"][name]["train"]) == 2
        assert 0 < row["train_cpu"] < 10
        assert row["infer_cpu_ratio"] == pytest.approx(
            sum(s[0] / v[0] for s, v in zip(*(report["rounds"][n]["infer"] for n in ("slow", name)), strict=True)) / 2
        )
    assert table["external"]["peak_mb"] > 50  # a process with torch
    stages = table["default"]["train_stages"]
    assert sum(stages.values()) == pytest.approx(table["default"]["train_cpu"], rel=0.5)
    assert stages["prompt: tails"] > 0
    assert "prompt: tails" not in table["slow"]["train_stages"]
    assert table["slow"]["train_stages"]["language model"] > stages["language model"]
    assert table["slow"]["train_gflop"] > table["default"]["train_gflop"] > table["seen"]["train_gflop"]
    assert table["none"]["infer_gflop"] > table["no-prompt"]["infer_gflop"] > 0
    assert (tmp_path / "bench_timellm.png").stat().st_size > 10_000
    assert "threads" in report["settings"]


def test_memory_is_measured_in_a_fresh_process(bench, tiny_backbone):
    sizes = bench.parse(["--quick", "--backbone", tiny_backbone, "--threads", "1"])
    assert 1 < bench.spawn_memory("no-prompt", sizes, tiny_backbone) < 500


def test_an_external_program_is_timed_by_its_own_clock(load_script, bench, tiny_backbone):
    external, sizes = build_external(load_script, bench, tiny_backbone, EXTERNAL)
    x, y = load_script("timellm_variants").draw_windows(sizes, 0)
    try:
        for _ in range(2):
            cpu, wall = external.train_step(x, y)
            assert 0 < wall < 5
            assert 0 <= cpu < 5
        assert external.infer(x)[1] < 5
    finally:
        external.close()
    assert external.process.returncode == 0


@pytest.mark.parametrize(
    ("answer", "horizon", "message"),
    [
        ('{"wall": 99.0, "cpu": 0.0}', 24, r"reports 99\.000 s for what took 0\."),
        ('{"error": "no memory"}', 24, "failed at .*: no memory"),
        ('{"wall": 0.0, "cpu": 0.0}', 23, r"shape \(2, 23, 1\), expected \(2, 24, 1\)"),
    ],
)
def test_an_external_program_that_answers_wrongly_ends_the_benchmark(
    answer, horizon, message, load_script, bench, tiny_backbone, tmp_path
):
    program = tmp_path / "liar.py"
    program.write_text(LIAR.replace("ANSWER", answer).replace("HORIZON", str(horizon)))

    def forecast():
        external, sizes = build_external(load_script, bench, tiny_backbone, program)
        external.infer(load_script("timellm_variants").draw_windows(sizes, 0)[0])

    with pytest.raises(RuntimeError, match=message):
        forecast()


def test_an_external_program_that_dies_is_an_error_with_its_status(load_script, bench, tiny_backbone, tmp_path):
    program = tmp_path / "dead.sh"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match="ended with status 7"):
        build_external(load_script, bench, tiny_backbone, program)
    with pytest.raises(FileNotFoundError, match="no such file"):
        build_external(load_script, bench, tiny_backbone, tmp_path / "nothing")


def test_growth_is_fitted_for_each_size_next_to_its_arithmetic(run, tmp_path):
    report = run("growth", "--growth", "--factors", 1, 2)
    rows = {(row["size"], row["kind"]): row for row in report["growth"]}
    assert len(rows) == 4 * 2
    assert rows["series", "train"]["values"] == [2, 4]
    for row in rows.values():
        for name in ("seconds", "gflops"):
            slope = math.log(row[name][1] / row[name][0]) / math.log(2)
            assert row[f"exponent_{name}"] == pytest.approx(slope)
        assert row["no_worse"] == (row["exponent_seconds"] <= row["exponent_gflops"] + 0.1)
    assert 0 < rows["prototypes", "train"]["exponent_gflops"] < rows["series", "train"]["exponent_gflops"] <= 1
    lines = (tmp_path / "growth.md").read_text().splitlines()
    assert len(lines) == 2 + 8
    assert lines[4].startswith("| series: 2 / 4 | training step | ")


def test_the_exponent_of_a_power_law_is_found(load_script):
    sizes = [64, 128, 256, 512]
    assert load_script("timellm_growth").fit_exponent(sizes, [3 * s**1.5 for s in sizes]) == pytest.approx(1.5)


def test_attention_counts_in_the_flops(load_script):
    count = load_script("timellm_variants").count_flops
    q, k = torch.randn(2, 3, 5, 8, requires_grad=True), torch.randn(2, 3, 7, 8, requires_grad=True)
    attend = torch.nn.functional.scaled_dot_product_attention
    forward = 2 * 2 * (2 * 3 * 5 * 7 * 8)  # scores and mixtures, two FLOPs a product
    with torch.no_grad():
        assert count(lambda: attend(q, k, k)) == forward
    assert count(lambda: attend(q, k, k).sum().backward()) == forward * 3.5  # five products more


def test_serving_reports_latency_and_throughput_of_predict(run):
    (row,) = run("serving", "--predict", 30, "--batch", 7, "--variants", "none")["serving"]
    assert (row["variant"], row["series"], row["batch"]) == ("none", 30, 7)
    assert row["latency_wall"] > 0
    assert row["series_per_cpu_second"] > 1 / row["latency_cpu"]  # a batch costs less than its series alone
    assert row["peak_mb"] < 300
