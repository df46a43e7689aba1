"""The contracts of `MODELS`, proven over the whole table with every head."""

import pickle
from dataclasses import fields

import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.models import MODELS, build_model, find_model_class
from tsllm.nn.heads import OUTPUTS
from tsllm.registry import UnknownNameError

LENGTH, HORIZON, CHANNELS, BATCH, FEATURES = 32, 8, 3, 4, 4
NARROW = {"d_model": 8, "num_heads": 2, "num_layers": 1, "d_ff": 8}
SIZES = {
    "dlinear": {"moving_average": 5},
    "patchtst": {**NARROW, "patch_length": 8, "patch_stride": 4},
    "itransformer": NARROW,
    "timesnet": {"d_model": 8, "d_ff": 8, "num_layers": 1, "top_k": 2, "num_kernels": 2},
    "timexer": {**NARROW, "patch_length": 8},
    "timemixer": {"d_model": 8, "d_ff": 8, "num_layers": 1, "moving_average": 5},
    "pyraformer": {**NARROW, "window_sizes": [4, 4]},
    "unet_tsf": {"num_stages": 2},
    "recurrent": {"d_model": 8},
    "timellm": {
        "patch_length": 8,
        "patch_stride": 4,
        "d_model": 8,
        "num_heads": 2,
        "d_ff": 8,
        "num_prototypes": 10,
        "num_backbone_layers": 1,
    },
    "patchcast": {**NARROW, "patch_length": 4},
}
BAD = {  # a configuration that each model must refuse, and what its error must name
    "dlinear": ({"moving_average": 4}, "4"),
    "patchtst": ({"patch_length": 64}, "64"),
    "itransformer": ({"num_heads": 3}, "3"),
    "timesnet": ({"top_k": 0}, "0"),
    "timexer": ({"patch_length": 64}, "64"),
    "timemixer": ({"moving_average": 4}, "4"),
    "pyraformer": ({"num_heads": 0}, "0"),
    "unet_tsf": ({"num_stages": 9}, "9"),
    "recurrent": ({"cell": "rnn"}, "rnn"),
    "timellm": ({"patch_length": 64}, "64"),
    "patchcast": ({"num_heads": 3}, "3"),
}
# Parameters that no gradient can reach, whatever the code: in softmax attention a key bias adds the same number to all
# scores of a query.
WITHOUT_EFFECT = ("key.bias",)
# Gradients against the largest of the model, in double precision: a zero is rounding, 2^-53 times some hundred terms.
ZERO, EFFECT = 1e-13, 1e-8


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "gpt2", "gpt2", layers=1, width=16)


@pytest.fixture
def build(backbone):
    """Builds a small model of the table in evaluation mode; seed 0."""

    def make(name, **options):
        torch.manual_seed(0)
        sizes = {"context_length": LENGTH, "prediction_length": HORIZON, "num_channels": CHANNELS}
        sizes |= SIZES[name] | ({"backbone": backbone} if name == "timellm" else {})
        return build_model(name, **(sizes | options)).eval()

    return make


def draw_batch(batch=BATCH, features=0):
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(batch, LENGTH + HORIZON, CHANNELS, generator=generator).cumsum(1)
    found = {"past_values": values[:, :LENGTH], "future_values": values[:, LENGTH:]}
    if features:
        marks = torch.rand(batch, LENGTH + HORIZON, features, generator=generator) - 0.5
        found |= {"past_time_features": marks[:, :LENGTH], "future_time_features": marks[:, LENGTH:]}
    return found


def test_every_model_of_the_table_is_tested_here():
    for table, name in ((SIZES, "SIZES"), (BAD, "BAD")):
        lacking, gone = set(MODELS.names()) - set(table), set(table) - set(MODELS.names())
        assert not lacking, f"give {sorted(lacking)} a line in {name} of this file (CONTRIBUTING.md, Add a model)"
        assert not gone, f"{sorted(gone)} of {name} is no model any more; take the line out"


def test_an_unknown_name_is_an_error_that_lists_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'timexer'"):
        MODELS.get("timexr")


@pytest.mark.parametrize("head", OUTPUTS.names())
@pytest.mark.parametrize("name", MODELS.names())
def test_every_head_gives_forecasts_and_a_finite_loss(name, head, build):
    model = build(name, head=head)
    output = model(**draw_batch())
    assert output.predictions.shape == (BATCH, HORIZON, CHANNELS)
    assert output.loss.dim() == 0
    assert torch.isfinite(output.loss)
    if head != "point":
        quantiles = model.compute_quantiles(output, [0.1, 0.5, 0.9])
        assert quantiles.shape == (BATCH, HORIZON, CHANNELS, 3)
        assert (quantiles.diff(dim=-1) >= 0).all()


@pytest.mark.parametrize("name", MODELS.names())
def test_the_loss_is_the_mean_squared_error_of_the_predictions(name, build):
    batch = draw_batch()
    output = build(name)(**batch)
    expected = (output.predictions.double() - batch["future_values"].double()).square().mean()
    torch.testing.assert_close(output.loss.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS.names())
def test_gradients_reach_every_trainable_parameter(name, build):
    features = FEATURES if MODELS.get(name).uses_time_features else 0
    model = build(name, num_time_features=features).double().train()
    batch = {key: value.double() for key, value in draw_batch(features=features).items()}
    model(**batch).loss.backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None] == []
    sizes = {n: float(p.grad.abs().max()) for n, p in trained.items()}
    largest = max(sizes.values())
    inert = {n for n in sizes if n.endswith(WITHOUT_EFFECT)}
    assert {n: size / largest for n, size in sizes.items() if n in inert and size > ZERO * largest} == {}
    assert {n: size / largest for n, size in sizes.items() if n not in inert and size < EFFECT * largest} == {}


@pytest.mark.parametrize("name", MODELS.names())
def test_a_saved_model_forecasts_the_same_bits(name, build, tmp_path):
    model = build(name)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    batch = draw_batch()
    model.save_pretrained(tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.suffix in (".bin", ".pt", ".pth")]
    loaded = type(model).from_pretrained(tmp_path)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(**batch).predictions, model(**batch).predictions)


@pytest.mark.parametrize("name", MODELS.names())
def test_evaluation_is_deterministic_and_training_is_not_needed_for_it(name, build):
    model, batch = build(name), draw_batch()
    with torch.no_grad():
        torch.manual_seed(1)
        first = model(**batch).predictions
        torch.manual_seed(2)
        assert torch.equal(first, model(**batch).predictions)


@pytest.mark.parametrize("name", MODELS.names())
def test_a_pickled_model_forecasts_the_same_bits(name, build):
    model, batch = build(name), draw_batch()
    with torch.no_grad():
        assert torch.equal(pickle.loads(pickle.dumps(model))(**batch).predictions, model(**batch).predictions)


@pytest.mark.parametrize("name", MODELS.names())
def test_a_sample_is_forecast_alike_in_any_batch(name, build):
    model, batch = build(name), draw_batch()
    with torch.no_grad():
        together = model(past_values=batch["past_values"]).predictions
        alone = torch.cat([model(past_values=x).predictions for x in batch["past_values"].split(1)])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


# Longer sums and wider layers than above, where rounding has room to differ.
WIDE = {"d_model": 32, "num_heads": 4, "num_layers": 2, "d_ff": 32}
LONG, WIDER = (
    96,
    {
        "dlinear": {},
        "patchtst": {**WIDE, "patch_length": 16, "patch_stride": 8},
        "itransformer": WIDE,
        "timesnet": {"d_model": 16, "d_ff": 16, "num_layers": 2, "top_k": 3, "num_kernels": 3},
        "timexer": {**WIDE, "patch_length": 16},
        "timemixer": {"d_model": 16, "d_ff": 32, "num_layers": 2},
        "pyraformer": {**WIDE, "window_sizes": [4, 4]},
        "unet_tsf": {"num_stages": 3},
        "recurrent": {"d_model": 32},
        "timellm": {
            **WIDE,
            "d_ff": 16,
            "num_layers": None,
            "patch_length": 16,
            "patch_stride": 8,
            "num_prototypes": 50,
        },
        "patchcast": {**WIDE, "patch_length": 8},
    },
)


@pytest.fixture
def build_wide(build):
    """Builds a wider model over longer contexts; seed 0."""

    def make(name, channels):
        sizes = {k: v for k, v in WIDER[name].items() if v is not None}
        return build(name, **(sizes | {"context_length": LONG, "num_channels": channels}))

    return make


def draw_walks(batch, channels, seed=0):
    """Random walks [batch, LONG, channels] of very different levels and scales."""
    generator = torch.Generator().manual_seed(seed)
    walks = torch.randn(batch, LONG, channels, generator=generator).cumsum(1)
    scales = 10.0 ** torch.randint(-2, 4, (batch, 1, channels), generator=generator)
    return scales * (walks + 5.0 * torch.randn(batch, 1, channels, generator=generator))


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", MODELS.names())
def test_batch_mates_change_a_forecast_by_rounding_at_most(name, channels, build_wide):
    """In a batch of any size, at any place: within 1e-5 of the context's deviation, and of 1e-6 of its level.

    Float32 rounds at 6e-8 of a value; some hundred terms, normalised and back, leave a tenth of the bound.
    """
    model, past = build_wide(name, channels), draw_walks(66, channels)
    unit = 1e-5 * past.std(1, keepdim=True) + 1e-6 * past.abs().amax(1, keepdim=True)  # [66, 1, C]
    with torch.no_grad():
        alone = torch.cat([model(past_values=x).predictions for x in past.split(1)])  # [66, H, C]
        for size in (2, 3, 5, 8, 17, 64, 66):
            together = torch.cat([model(past_values=x).predictions for x in past.split(size)])
            assert ((together - alone).abs() / unit).max() <= 1.0, size


@pytest.mark.parametrize("name", MODELS.names())
def test_the_same_batch_gives_the_same_bits(name, build_wide):
    model, past = build_wide(name, 1), draw_walks(17, 1)
    with torch.no_grad():
        first = model(past_values=past).predictions
        model(past_values=draw_walks(5, 1, seed=1))
        assert torch.equal(model(past_values=past.clone()).predictions, first)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("name", MODELS.names())
def test_a_window_computed_alone_gives_the_same_bits_whatever_was_asked_for_before(name, channels, build_wide):
    model, past = build_wide(name, channels), draw_walks(9, channels)
    fresh = build_wide(name, channels)
    with torch.no_grad():
        model(past_values=past)  # fills what the model keeps
        with model.computing_alone():
            whole = torch.cat([model(past_values=x).predictions for x in past.split(1)])
        model(past_values=past.flip(0)[:5])
        with model.computing_alone():
            backwards = torch.cat([model(past_values=x).predictions for x in past.flip(0).split(1)]).flip(0)
        with fresh.computing_alone():
            single = fresh(past_values=past[4:5]).predictions
    assert torch.equal(whole, backwards)
    assert torch.equal(single, whole[4:5])


@pytest.mark.parametrize("name", MODELS.names())
def test_what_stands_at_missing_steps_never_matters(name, build):
    model, batch = build(name), draw_batch()
    generator = torch.Generator().manual_seed(5)
    mask = torch.rand(batch["past_values"].shape, generator=generator) > 0.3
    mask[0, :, 0] = False  # a channel of which nothing is known
    outputs = []
    for filler in (0.0, 1e6, float("nan")):
        values = torch.where(mask, batch["past_values"], filler)
        with torch.no_grad():
            outputs.append(model(past_values=values, past_observed_mask=mask).predictions)
    assert torch.isfinite(outputs[0]).all()
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("name", MODELS.names())
def test_a_full_mask_equals_no_mask(name, build):
    model, past = build(name), draw_batch()["past_values"]
    with torch.no_grad():
        masked = model(past_values=past, past_observed_mask=torch.ones_like(past, dtype=torch.bool)).predictions
        torch.testing.assert_close(masked, model(past_values=past).predictions, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS.names())
def test_a_missing_target_is_skipped_and_leaves_gradients_finite(name, build):
    model, batch = build(name).train(False), draw_batch()
    future = batch["future_values"].clone()
    future[:, ::2] = float("nan")
    output = model(past_values=batch["past_values"], future_values=future)
    expected = (output.predictions[:, 1::2] - future[:, 1::2]).square().mean()
    torch.testing.assert_close(output.loss, expected, atol=1e-5, rtol=1e-5)
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", MODELS.names())
def test_inputs_stay_as_they_are(name, build):
    model, batch = build(name).train(), draw_batch()
    copies = {key: value.clone() for key, value in batch.items()}
    model(**batch).loss.backward()
    assert all(torch.equal(batch[key], copies[key]) for key in batch)


@pytest.mark.parametrize("name", MODELS.names())
def test_a_bad_value_is_named(name, build):
    options, named = BAD[name]
    with pytest.raises(ValueError, match=named) as caught:
        build(name, **options)
    assert next(iter(options)) in str(caught.value)


@pytest.mark.parametrize("name", MODELS.names())
def test_an_unknown_key_is_an_error(name, build):
    with pytest.raises(ValueError, match="seq_len"):
        build(name, seq_len=96)


@pytest.mark.parametrize("name", MODELS.names())
def test_a_wrong_shape_is_an_error_that_states_both(name, build):
    with pytest.raises(ValueError, match=rf"\[2, {LENGTH - 1}, {CHANNELS}\].*\[2, {LENGTH}, {CHANNELS}\]"):
        build(name)(past_values=torch.zeros(2, LENGTH - 1, CHANNELS))


@pytest.mark.parametrize("name", [n for n in MODELS if MODELS.get(n).uses_time_features])
def test_configured_time_features_must_be_given(name, build):
    with pytest.raises(ValueError, match="past_time_features is missing"):
        build(name, num_time_features=FEATURES)(past_values=draw_batch()["past_values"])


@pytest.mark.parametrize("name", [n for n in MODELS if not MODELS.get(n).uses_covariates])
def test_covariates_are_refused_by_models_that_do_not_read_them(name, build):
    with pytest.raises(ValueError, match="num_covariates is 2"):
        build(name, num_covariates=2)


@pytest.mark.parametrize("name", MODELS.names())
def test_a_truth_value_is_no_number(name):
    config_class = find_model_class(name).config_class
    numbers = [f.name for f in fields(config_class) if f.name in config_class.own_fields() and f.type in (int, float)]
    assert {"context_length", "prediction_length"} <= set(numbers)
    for number in numbers:
        with pytest.raises(ValueError, match=f"^{number} must be a number or a text, got True$"):
            config_class(**{number: True})
