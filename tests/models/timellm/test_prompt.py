import numpy as np
import pytest
import torch

from tests.fixtures.backbones import build_tokenizer
from tsllm.models.inputs import Inputs
from tsllm.models.timellm.prompt import (
    PromptTokenizer,
    Statistics,
    compute_lags,
    compute_statistics,
    format_number,
    format_tails,
    write_prefix,
)


def texts_of(model, values, **given):
    prompt = model.write_prompt(Inputs(values, given.pop("mask", None), None, None, None, None, **given))
    rows = prompt.rows or (0,) * (values.shape[0] * values.shape[2])
    return [model.backbone.tokenizer.decode(prompt.prefix + prompt.tails[k]) for k in rows]


def test_prompt_of_a_window_worked_by_hand(gpt2, build):
    model = build(gpt2, context_length=12, prediction_length=3, num_channels=1, num_lags=2)
    values = torch.tensor([10.0, 20, 30, 20] * 3) * 123.456  # period 4, in original units
    text = texts_of(model, values.view(1, 12, 1))[0]
    assert text == (
        "<|start_prompt|>Dataset description: electricity prices\n"
        "Task description: forecast the next 3 steps given the previous 12 steps.\n"
        "Input statistics (min, max, median, trend, top lags): 1230 3700 2470 up 4 1\n"
    )  # lags 1, 3 and 5 tie at 0


def test_statistics_of_three_windows_by_hand():
    values = torch.tensor([[4.0, 1, 3, 2], [5.0, 5, 5, 5], [1.0, 2, 3, 40]])
    mask = torch.tensor([[True] * 4, [True] * 4, [True, True, True, False]])
    found = compute_statistics(values, mask, num_lags=2)
    assert found.minimum.tolist() == [1, 5, 1]
    assert found.maximum.tolist() == [4, 5, 3]
    assert found.median.tolist() == [2.5, 5, 2]
    assert found.change.tolist() == [-2, 0, 2]
    # Centred: 1.5 -1.5 .5 -.5; lag 1: -2.25 -.75 -.25 -.75 = -4; lag 2: .75 + .75 + .75 + .75 = 3
    assert found.lags.tolist()[0] == [2, 1]
    assert found.lags.tolist()[1] == [-1, -1]


@pytest.mark.parametrize("length", [7, 8])
def test_statistics_of_the_observed_steps_are_numpys(length):
    values, mask = torch.randn(50, length), torch.rand(50, length) > 0.3
    mask[:, 0] = True
    found = compute_statistics(values, mask, 1)
    observed = np.where(mask, values.double().numpy(), np.nan)
    np.testing.assert_allclose(found.median, np.nanmedian(observed, 1))
    np.testing.assert_allclose(found.minimum, np.nanmin(observed, 1))
    np.testing.assert_allclose(found.maximum, np.nanmax(observed, 1))
    last = [row[~np.isnan(row)][-1] for row in observed]
    np.testing.assert_allclose(found.change, last - observed[:, 0])


def test_lags_are_distinct_without_zero_and_mirror_images():
    values = torch.sin(torch.arange(48.0).double() * 2 * torch.pi / 12)[None] + 0.1 * torch.randn(20, 48).double()
    for row in compute_lags(values, None, 5).tolist():
        assert len(set(row)) == 5
        assert all(1 <= lag <= 24 for lag in row)


def test_lags_equal_a_loop_over_the_circle():
    values = torch.randn(6, 30).double()
    found = compute_lags(values, None, 15)
    for row, lags in zip(values, found.tolist(), strict=True):
        centred = row - row.mean()
        correlation = {k: float((centred * centred.roll(k)).sum()) for k in range(1, 16)}
        assert lags == sorted(correlation, key=lambda k: -correlation[k])


def test_tied_lags_come_in_ascending_order():
    values = torch.tensor([1.0, -1, 0, 0] * 12).double()[None]  # lags 4, 8, 12, ... tie exactly
    assert compute_lags(values, None, 6).tolist() == [[4, 8, 12, 16, 20, 24]]


def test_lags_do_not_change_with_scale_and_shift():
    values = torch.randn(5, 40).double()
    assert torch.equal(compute_lags(values, None, 5), compute_lags(values * 1e6 - 3e8, None, 5))


def test_a_constant_window_has_no_lags_and_a_flat_trend():
    statistics = compute_statistics(torch.full((1, 24), 1e6 / 3), None, 5)
    assert format_tails(statistics) == [" 333000 333000 333000 flat none\n"]


def test_a_window_without_observations_gives_finite_numbers():
    statistics = compute_statistics(torch.zeros(1, 8), torch.zeros(1, 8, dtype=torch.bool), 2)
    assert format_tails(statistics) == [" 0 0 0 flat none\n"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (1234.5, "1230"),
        (-0.045678, "-0.0457"),
        (99.96, "100"),
        (0.000123456, "0.000123"),
        (1.5e-9, "1.5e-09"),
        (-2.3456e12, "-2.35e+12"),
        (123456789.0, "123000000"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert format_number(value) == text


def test_missing_steps_do_not_enter_the_statistics(gpt2, build):
    model = build(gpt2, num_channels=1)
    values = torch.sin(torch.arange(48.0) / 3).view(1, 48, 1)
    mask = torch.ones(1, 48, 1, dtype=torch.bool)
    mask[:, 10:20] = False
    damaged = values.masked_fill(~mask, 99.0)
    with_damage, plain = texts_of(model, damaged, mask=mask)[0], texts_of(model, values, mask=mask)[0]
    # The lags of the filled window are computed with the mean in the gaps, so both agree.
    assert with_damage == plain


def test_the_prompt_speaks_in_original_units_of_configuration_or_batch(gpt2, build):
    scaled = torch.linspace(-1, 1, 48).view(1, 48, 1).repeat(1, 1, 2)
    model = build(gpt2, series_loc=[100.0, 0.0], series_scale=[10.0, 2.0])
    first, second = texts_of(model, scaled)
    assert ": 90 110 100 up" in first
    assert ": -2 2 0 up" in second
    own = {"series_loc": torch.tensor([[[5.0, 5.0]]]), "series_scale": torch.tensor([[[1.0, 1.0]]])}
    first, second = texts_of(model, scaled, **own)
    assert ": 4 6 5 up" in first
    assert ": 4 6 5 up" in second
    assert ": -1 1 0 up" in texts_of(build(gpt2), scaled)[0]


def test_statistics_can_be_left_out_or_taken_once_a_series(gpt2, build, windows):
    none = build(gpt2, prompt_statistics="none")
    assert set(texts_of(none, windows)) == {write_prefix("electricity prices", 48, 12, False)}
    series = build(gpt2, prompt_statistics="series")
    with pytest.raises(ValueError, match="describe_series"):
        series(past_values=windows)
    written = series.describe_series(torch.linspace(0, 10, 200)[:, None] * torch.tensor([1.0, -1.0]))
    assert written[0].startswith(" 0 10 5 up 1 2")
    assert written[1].startswith(" -10 0 -5 down 1 2")
    prompt = series.write_prompt(Inputs(windows, None, None, None, None, None))
    assert prompt.rows == (0, 1, 0, 1, 0, 1)
    assert len(prompt.tails) == 2


def test_the_prompt_can_be_turned_off(gpt2, build, windows):
    assert build(gpt2, prompt=False).write_prompt(Inputs(windows, None, None, None, None, None)) is None


def test_prompts_depend_on_their_own_window_only(gpt2, build, windows):
    model = build(gpt2)
    assert texts_of(model, windows)[2:4] == texts_of(model, windows[1:2])


def test_tails_are_tokenized_once_and_forgotten_beyond_the_capacity():
    tokenizer = build_tokenizer()
    calls = []

    class Counting:
        bos_token_id = None

        def __call__(self, texts, **options):
            calls.append(list(texts))
            return tokenizer(texts, **options)

    writer = PromptTokenizer(Counting(), "prefix", capacity=2)
    calls.clear()
    prompt = writer.tokenize(["a", "b", "a"])
    assert prompt.rows == (0, 1, 0)
    assert prompt.tails == (tuple(tokenizer("a")["input_ids"]), tuple(tokenizer("b")["input_ids"]))
    writer.tokenize(["b", "a"])
    assert calls == [["a", "b"]]
    writer.tokenize(["c"])
    writer.tokenize(["b"])
    assert calls == [["a", "b"], ["c"], ["b"]]


def test_tails_say_what_the_statistics_hold():
    statistics = Statistics(
        np.array([1.5]), np.array([2.5]), np.array([2.0]), np.array([-1.0]), np.array([[24, 12, -1]])
    )
    assert format_tails(statistics) == [" 1.5 2.5 2 down 24 12\n"]
