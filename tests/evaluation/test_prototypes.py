from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2Model

from tests.text.conftest import tokenizer  # noqa: F401
from tsllm.evaluation import figures
from tsllm.evaluation.prototypes import PrototypeAttention, compute_prototype_attention, find_nearest_words
from tsllm.evaluation.saved import is_reprogrammed
from tsllm.forecasting.neural import NeuralForecaster
from tsllm.models import build_model

CONTEXT, PATCH, STRIDE, HEADS = 24, 8, 4, 2


@pytest.fixture
def df():
    rng = np.random.default_rng(0)
    parts = []
    for k, name in enumerate(("a", "b")):
        y = 10 * (k + 1) + 3 * np.sin(np.arange(90) * 2 * np.pi / 24) + rng.normal(size=90)
        parts.append(pd.DataFrame({"unique_id": name, "ds": pd.date_range("2024", periods=90, freq="h"), "y": y}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def train(tmp_path, df, tokenizer):  # noqa: F811
    """Trains a Time-LLM on a tiny backbone for a few steps and saves it."""

    def save(with_tokenizer=True):
        torch.manual_seed(5)
        config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=16, n_layer=1, n_head=2)
        GPT2Model(config).save_pretrained(tmp_path / "gpt")
        if with_tokenizer:
            tokenizer.save_pretrained(tmp_path / "gpt")
        options = {
            "backbone": str(tmp_path / "gpt"),
            "context_length": CONTEXT,
            "patch_length": PATCH,
            "prompt": False,
        }
        options |= {"patch_stride": STRIDE, "d_model": 8, "num_heads": HEADS, "d_ff": 8, "num_prototypes": 12}
        options |= {"num_backbone_layers": 1, "prompt": False}
        training = {"max_steps": 3, "per_device_train_batch_size": 4, "eval_steps": 3}
        model = NeuralForecaster("timellm", 6, freq="h", training=training, **options).fit(df)
        model.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return save


def test_weights_are_the_mean_over_windows_and_heads(train, df):
    folder = train()
    found = compute_prototype_attention(folder, df, 6, n_windows=3, step_size=6)
    predictor = NeuralForecaster.from_pretrained(folder)
    model, scaler = predictor.model.eval(), predictor.spec.load_scaler()
    scaled = scaler.transform(df)
    rows = []
    for k in range(3):
        for name in ("a", "b"):
            y = scaled[scaled["unique_id"] == name]["y"].to_numpy()[: 90 - 6 * (3 - k)]
            x = torch.tensor(y[-CONTEXT:], dtype=torch.float32)[None, :, None]
            normed = model.norm(x)[0].transpose(1, 2).flatten(0, 1)
            keys, _ = model.reprogramming.project(model.prototypes(model.backbone.words))
            rows.append(model.reprogramming.attend(model.patch_embedding(normed), keys)[0].mean(0))
    expected = torch.stack(rows).mean(0).detach().numpy()  # [P, S]
    assert found.windows == 6
    assert found.weights.shape == (model.config.num_patches, 12)
    np.testing.assert_allclose(found.weights, expected, atol=1e-6)
    np.testing.assert_allclose(found.weights.sum(1), 1)
    assert found.starts.tolist() == [0, 4, 8, 12, 16, 20]
    assert set(found.words) == set(found.find_top(10))


def test_a_backbone_without_a_tokenizer_leaves_numbers(train, df):
    found = compute_prototype_attention(train(with_tokenizer=False), df, 6, 2, 6)
    assert found.words == {}
    picture = figures.draw_prototypes("T", found, 3)
    assert f": #{found.find_top(1)[0]} " in picture.alt
    assert "has no tokenizer" in picture.caption


def test_other_models_have_no_prototypes(tmp_path, df):
    options = {"context_length": 12, "moving_average": 3, "training": {"max_steps": 1, "eval_steps": 1}}
    NeuralForecaster("dlinear", 6, freq="h", **options).fit(df).save_pretrained(tmp_path / "d")
    with pytest.raises(TypeError, match="holds a DLinear, which has no prototypes"):
        compute_prototype_attention(tmp_path / "d", df, 6, 2, 6)


def test_the_nearest_words_point_the_same_way_once_the_means_are_taken_away(tokenizer):  # noqa: F811
    torch.manual_seed(0)
    words = torch.randn(len(tokenizer), 8) + 50.0
    a, b = tokenizer("ab", add_special_tokens=False)["input_ids"]
    centred = words - words.mean(0)
    prototypes = torch.stack([centred[a], -centred[a], 2 * centred[b], -2 * centred[b]]) + 7.0
    named = find_nearest_words(prototypes, words, [2, 0], tokenizer, count=2)
    assert list(named) == [2, 0]
    assert named[0][0] == ("a", pytest.approx(1, abs=1e-5))
    assert named[2][0] == ("b", pytest.approx(1, abs=1e-5))
    assert named[0][1][1] < 1
    blank = tokenizer(" ", add_special_tokens=False)["input_ids"][0]
    unseen = find_nearest_words(torch.stack([centred[blank], -centred[blank]]), words, [0], tokenizer)
    assert all(text.strip() for text, _ in unseen[0])


def make_attention(num_patches=4, num_prototypes=10):
    weights = np.full((num_patches, num_prototypes), 0.5 / (num_prototypes - 1))
    weights[:, 7] = 0.5
    words = {7: [("price", 0.31), ("$x_2$", 0.3)]}
    return PrototypeAttention(weights, np.arange(num_patches) * 8, 8, 8 * num_patches, words, 5)


def test_the_effective_number_is_that_of_equal_shares():
    even = PrototypeAttention(np.full((2, 8), 1 / 8), np.array([0, 8]), 8, 16, {}, 1)
    assert even.count_effective() == pytest.approx(8)
    alone = np.zeros((1, 8))
    alone[0, 3] = 1
    assert PrototypeAttention(alone, np.array([0]), 8, 8, {}, 1).count_effective() == pytest.approx(1)


@pytest.mark.parametrize("num_patches", [4, 40])
def test_the_picture_says_who_gets_how_much(num_patches):
    picture = figures.draw_prototypes("TimeLLM", make_attention(num_patches), 2)
    assert "#7 “price” “$x_2$” 5.0 times" in picture.alt
    assert "The 2 shown get 56 % of it, an equal share would be 20 %" in picture.alt
    assert "cosine similarities of 0.31 to 0.31" in picture.caption
    assert "“$x_2$”</text>" in picture.svg  # not read as mathematics
    assert (">5.0<" in picture.svg) == (num_patches == 4)  # numbers only where they can be read
    assert "<image" not in picture.svg


def test_a_model_that_has_the_field_but_no_patches_on_prototypes_is_no_reprogrammed_one(tmp_path, train):
    build_model("patchcast", context_length=32, prediction_length=8, head="quantile").save_pretrained(
        tmp_path / "cast"
    )
    assert "num_prototypes" in (tmp_path / "cast" / "config.json").read_text()
    assert not is_reprogrammed(tmp_path / "cast")
    assert is_reprogrammed(Path(train()))
    assert not is_reprogrammed(tmp_path / "gone")
