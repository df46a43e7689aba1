from types import SimpleNamespace

import pytest

from tsllm.models.timellm import TimeLLM


@pytest.mark.parametrize(
    ("season", "context", "length"),
    [
        (24, 336, 24),  # hourly: a day
        (48, 672, 48),  # half-hourly: a day
        (12, 36, 12),  # monthly: a year
        (7, 42, 14),  # daily: two weeks
        (7, 32, 7),  # a week, so that three patches fit
        (4, 16, 4),  # quarterly
    ],
)
def test_patches_of_a_new_model_are_whole_seasons(season, context, length):
    data = SimpleNamespace(
        task=SimpleNamespace(season=season), train=SimpleNamespace(context_length=context, covariate_names=())
    )
    assert TimeLLM.default_config_for(data, {}) == {"patch_length": length, "patch_stride": length}
    for asked in ({"patch_length": 5}, {"patch_stride": 5}):
        assert TimeLLM.default_config_for(data, asked) == {}


@pytest.mark.parametrize(("season", "context"), [(1, 96), (52, 104)])
def test_published_patches_stay_where_no_three_seasons_fit(season, context):
    data = SimpleNamespace(
        task=SimpleNamespace(season=season), train=SimpleNamespace(context_length=context, covariate_names=())
    )
    assert TimeLLM.default_config_for(data, {}) == {}


def test_a_new_model_of_data_with_covariates_gets_horizon_queries():
    train = SimpleNamespace(context_length=336, covariate_names=("load",))
    data = SimpleNamespace(task=SimpleNamespace(season=24), train=train)
    made = {"reader": "horizon", "patch_length": 24, "patch_stride": 24}
    assert TimeLLM.default_config_for(data, {}) == made
    assert TimeLLM.default_config_for(data, {"patch_length": 5}) == {"reader": "horizon"}
