"""The legend of `arms.md`."""

from tsllm.programs.arms_legend import describe_table


def test_each_column_and_row_is_told():
    scores = ["reward", "reward@q80", "battery_profit", "mae", "coverage_80"]
    assert describe_table(["start", "policy"], scores, ["battery_profit"], {"q80": 0.8}) == [
        "- start: the supervised start.",
        "- policy: the start trained by this recipe, the model that is kept.",
        "- reward: what was trained on, of the test part's forecasts, larger is better.",
        "- reward@q80: reward where the decision is the quantile .8.",
        "- battery_profit: a further reward (`decisions`) of the same forecasts, larger is better.",
        "- mae: mean absolute error of the point forecast, in units of the data, lower is better.",
        "- coverage_80: share of targets inside the 80 % interval, .8 is right.",
    ]
