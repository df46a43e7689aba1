"""Horizon queries: how they begin, what they add, and what stands in for the language model under them."""

import math

import pytest
import torch

from tsllm.evaluation.ablation import build_ablations, is_without_llm
from tsllm.forecasting.model_spec import ModelSpec, give_named_covariates, reads_covariates
from tsllm.models.timellm.config import TimeLLMConfig
from tsllm.models.timellm.horizon import cut_tokens

COVARIATES = {"num_covariates": 3, "num_known_covariates": 2}


@pytest.fixture
def known():
    generator = torch.Generator().manual_seed(4)
    return {
        "past_covariates": torch.randn(3, 48, 3, generator=generator),
        "future_covariates": torch.randn(3, 12, 2, generator=generator),
    }


def test_a_fresh_reader_forecasts_the_bits_of_the_published_head(backbone, build, windows, known):
    plain = build(backbone)(past_values=windows).predictions
    fresh = build(backbone, reader="horizon", **COVARIATES)
    assert torch.equal(fresh(past_values=windows, **known).predictions, plain)
    fresh.horizon.answer.value.bias.data.fill_(1.0)
    assert not torch.equal(fresh(past_values=windows, **known).predictions, plain)


def test_the_residual_is_gate_times_value_in_units_of_the_window(gpt2, build, windows, known):
    model = build(gpt2, reader="horizon", **COVARIATES).double()
    known = {name: tensor.double() for name, tensor in known.items()}
    past = windows.double()
    with torch.no_grad():
        before = model(past_values=past, **known).predictions
        model.horizon.answer.gate.weight.zero_()
        model.horizon.answer.gate.bias.fill_(math.log(3))  # sigmoid(ln 3) = 3 / 4
        model.horizon.answer.value.bias.fill_(2.0)
        added = model(past_values=past, **known).predictions - before
    deviation = (past.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(added, (1.5 * deviation).expand(3, 12, 2), atol=1e-9, rtol=1e-9)


def test_tokens_end_with_the_newest_step_or_begin_with_the_next():
    steps = torch.arange(1.0, 6.0).view(1, 5, 1) * torch.tensor([1.0, 10.0])  # [1, 5, 2]
    assert cut_tokens(steps, 2).tolist() == [[[1, 1, 10, 10], [2, 3, 20, 30], [4, 5, 40, 50]]]
    assert cut_tokens(steps, 2, at_end=True).tolist() == [[[1, 2, 10, 20], [3, 4, 30, 40], [5, 5, 50, 50]]]


def test_a_covariate_that_is_constant_in_every_window_tells_windows_apart(gpt2, build, windows, known):
    model = build(gpt2, reader="horizon", **COVARIATES)
    torch.nn.init.normal_(model.horizon.answer.value.weight)
    for name in known:
        known[name][..., 0] = 0.0
    larger = {name: tensor.clone() for name, tensor in known.items()}
    for name in larger:
        larger[name][0, :, 0] = 1.0  # the size of a shop, say
    moved = (model(past_values=windows, **larger).predictions - model(past_values=windows, **known).predictions).abs()
    assert moved[0].max() > 1e-3
    assert moved[1:].max() == 0


def test_queries_without_covariates_read_the_patches(gpt2, build, windows):
    model = build(gpt2, reader="horizon")
    torch.nn.init.normal_(model.horizon.answer.value.weight)
    plain = build(gpt2)(past_values=windows).predictions
    assert (model(past_values=windows).predictions - plain).abs().max() > 1e-3


def test_texts_come_whole_and_only_where_they_are_read(gpt2, build, windows):
    told = {"text_states": torch.randn(3, 1, 5, 32), "text_mask": torch.ones(3, 2, 12, 1, 5, dtype=torch.bool)}
    told |= {"text_rows": torch.arange(3)[:, None], "text_calendar": torch.zeros(3, 12, 34)}
    reader = build(gpt2, reader="horizon", text_layers=2)
    assert reader(past_values=windows, **told).predictions.shape == (3, 12, 2)
    with pytest.raises(ValueError, match="text_mask is missing; text_states, text_rows, text_mask and text_cal"):
        reader(past_values=windows, **{name: tensor for name, tensor in told.items() if name != "text_mask"})
    with pytest.raises(ValueError, match=r"text_mask has shape \[3, 2, 12, 1, 4\], expected \[3, 2, 12, 1, 5\]"):
        reader(past_values=windows, **(told | {"text_mask": told["text_mask"][..., :4]}))
    reader.horizon.texts.answer.gate.bias.data.fill_(50.0)
    rate, level, amount = -1.0, -1.0, 9.0
    reader.horizon.texts.answer.value.bias.data.copy_(torch.tensor([0.0, rate, level, amount]))
    torch.testing.assert_close(
        reader(past_values=windows, **told).predictions, torch.full((3, 12, 2), 9.0), atol=1e-3, rtol=0
    )
    with pytest.raises(ValueError, match="reads no texts; leave it out, or take a model with text_layers"):
        build(gpt2, reader="horizon")(past_values=windows, **told)


@pytest.mark.parametrize("name", ["none", "attention", "block"])
def test_the_language_model_is_taken_away_under_the_queries_too(name, gpt2, build, windows, known):
    model = build(gpt2, reader=f"horizon-{name}", prompt=False, **COVARIATES)
    plain = build(gpt2, reader=name, prompt=False)
    assert torch.equal(model(past_values=windows, **known).predictions, plain(past_values=windows).predictions)
    assert model.horizon is not None
    assert plain.horizon is None


@pytest.mark.parametrize("given", [{"options": {"reader": "horizon"}}, {"covariates": True}])
def test_ablations_keep_the_queries_and_the_covariates(given):
    spec = ModelSpec("timellm", **given)
    made = {m.variant: m for m in build_ablations(spec)}
    assert not is_without_llm(spec)
    for variant, reader in (("noLLM", "horizon-none"), ("attention", "horizon-attention"), ("block", "horizon-block")):
        assert made[variant].options["reader"] == reader
        assert is_without_llm(made[variant])
        assert reads_covariates(made[variant])
    plain = {m.variant: m for m in build_ablations(ModelSpec("timellm"))}
    assert plain["noLLM"].options["reader"] == "none"
    assert not reads_covariates(plain["noLLM"])


def test_covariates_named_on_the_command_line_are_read_by_whoever_can():
    refusing = ModelSpec("timellm", "Plain", options={"reader": "llm"})
    given = [ModelSpec("timellm"), ModelSpec("timexer"), ModelSpec("dlinear"), refusing]
    assert [spec.covariates for spec in give_named_covariates(given)] == [True, None, None, None]
    assert [reads_covariates(spec) for spec in give_named_covariates(given)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"num_covariates": 2}, "reader 'llm' reads no covariates, but num_covariates is 2; set reader: horizon"),
        ({"horizon_reader": {"d_model": 8}}, "horizon_reader is given but reader is 'llm'; set reader: horizon"),
        (
            {"reader": "horizon", "horizon_reader": {"width": 8}},
            r"does not know \['width'\]; known: d_model, num_heads",
        ),
        ({"reader": "horizon", "horizon_reader": {"d_model": 30}}, r"num_heads \(4\) must divide d_model \(30\)"),
        ({"reader": "horizon", "horizon_reader": {"num_layers": 0}}, "num_layers must be a positive integer, got 0"),
        ({"reader": "horizon", "horizon_reader": {"dropout": 1.0}}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"reader": "horizon-none"}, "reader 'horizon-none' reads no prompt"),
        ({"reader": "horizons"}, "reader must be one of llm, none, attention, block, horizon"),
    ],
)
def test_what_does_not_fit_is_named_with_the_way_out(options, named):
    with pytest.raises(ValueError, match=named):
        TimeLLMConfig(**options)
