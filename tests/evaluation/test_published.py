"""Published figures: every covered data set has some, each once, and averages are those that the papers print."""

import pytest

from tsllm.data.sources import DATASETS
from tsllm.evaluation.published import PUBLISHED

LONG_TERM = [name for name in DATASETS if DATASETS.get(name).horizons]


def average(data, context, model, metric):
    cells = [c for c in PUBLISHED if (c.data, c.context, c.model, c.metric) == (data, context, model, metric)]
    assert [c.h for c in cells] == list(DATASETS.get(data).horizons)
    return sum(c.value for c in cells) / len(cells)


def test_no_figure_stands_twice():
    keys = [(c.data, c.context, c.h, c.model, c.metric) for c in PUBLISHED]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("data", LONG_TERM)
def test_every_covered_data_set_has_published_figures_at_each_customary_horizon_and_look_back(data):
    found = {(c.h, c.context) for c in PUBLISHED if c.data == data}
    custom = DATASETS.get(data).context_length
    assert {h for h, _ in found} == set(DATASETS.get(data).horizons)
    assert custom in {context for _, context in found}


# The papers print averages over the four horizons to three decimals, rounded or cut.
@pytest.mark.parametrize(
    ("data", "context", "model", "mse", "mae"),
    [
        ("etth1", 512, "TimeLLM", 0.408, 0.423),
        ("etth1", 512, "GPT4TS", 0.427, 0.426),
        ("etth1", 512, "PatchTST", 0.413, 0.430),
        ("etth1", 512, "DLinear", 0.422, 0.437),
        ("etth2", 512, "TimeLLM", 0.334, 0.383),
        ("etth2", 512, "GPT4TS", 0.354, 0.394),
        ("etth2", 512, "PatchTST", 0.330, 0.379),
        ("etth2", 512, "DLinear", 0.431, 0.446),
        ("ettm1", 512, "TimeLLM", 0.329, 0.372),
        ("ettm1", 512, "GPT4TS", 0.352, 0.383),
        ("ettm1", 512, "PatchTST", 0.351, 0.380),
        ("ettm1", 512, "DLinear", 0.357, 0.378),
        ("ettm2", 512, "TimeLLM", 0.251, 0.313),
        ("ettm2", 512, "GPT4TS", 0.266, 0.326),
        ("ettm2", 512, "PatchTST", 0.255, 0.315),
        ("ettm2", 512, "DLinear", 0.267, 0.333),
        ("weather", 512, "TimeLLM", 0.225, 0.257),
        ("weather", 512, "GPT4TS", 0.237, 0.270),
        ("weather", 512, "PatchTST", 0.225, 0.264),
        ("weather", 512, "DLinear", 0.248, 0.300),
        ("electricity", 512, "TimeLLM", 0.158, 0.252),
        ("electricity", 512, "GPT4TS", 0.167, 0.263),
        ("electricity", 512, "PatchTST", 0.161, 0.252),
        ("electricity", 512, "DLinear", 0.166, 0.263),
        ("traffic", 512, "TimeLLM", 0.388, 0.264),
        ("traffic", 512, "GPT4TS", 0.414, 0.294),
        ("traffic", 512, "PatchTST", 0.390, 0.263),
        ("traffic", 512, "DLinear", 0.433, 0.295),
        ("ili", 96, "TimeLLM", 1.435, 0.801),
        ("ili", 96, "GPT4TS", 1.925, 0.903),
        ("ili", 96, "PatchTST", 1.443, 0.797),
        ("ili", 96, "TimesNet", 2.139, 0.931),
        ("traffic", 96, "ITransformer", 0.428, 0.282),
        ("traffic", 96, "PatchTST", 0.481, 0.304),
        ("traffic", 96, "TimesNet", 0.620, 0.336),
        ("traffic", 96, "DLinear", 0.625, 0.383),
        ("exchange", 96, "DLinear", 0.354, 0.414),
        ("electricity", 96, "PatchTST", 0.205, 0.290),
        ("etth1", 512, "ITransformer", 0.451, 0.462),
    ],
)
def test_averages_over_the_horizons_are_the_printed_ones(data, context, model, mse, mae):
    for metric, printed in (("scaled_mse", mse), ("scaled_mae", mae)):
        assert abs(average(data, context, model, metric) - printed) < 0.00101


def test_no_figure_of_another_table_is_said_to_be_of_time_llms():
    models = {c.model for c in PUBLISHED if c.source.startswith("table of Time-LLM")}
    assert models == {"TimeLLM", "GPT4TS", "PatchTST", "DLinear", "TimesNet"}


def test_figures_that_a_table_repeats_from_another_look_back_say_so():
    sources = {c.source for c in PUBLISHED if (c.context, c.model) == (512, "DLinear")}
    assert all("DLinear (Zeng 2023), look-back 336" in source for source in sources)
    (cell,) = [c for c in PUBLISHED if (c.data, c.context, c.h, c.model, c.metric)
               == ("etth1", 512, 336, "DLinear", "scaled_mae")]  # fmt: skip
    assert cell.value == 0.443
