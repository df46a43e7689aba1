"""The lens: what it does to features of unlike size, what it keeps, and that few texts do not blow it up."""

import pytest
import torch

from tsllm.nn.lens import DIRECTIONS, Lens


def test_features_count_alike_whatever_their_size():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(500, 4, generator=generator)
    plain, uneven = Lens(4), Lens(4)
    plain.fit([tokens[:200], tokens[200:]])
    sizes = torch.tensor([1.0, 100.0, 0.1, 1.0])
    uneven.fit([tokens * sizes + 5.0])
    torch.testing.assert_close(uneven(tokens * sizes + 5.0).abs(), plain(tokens).abs(), atol=1e-3, rtol=1e-3)
    assert float(plain(tokens).square().mean()) == pytest.approx(1.0, abs=1e-3)
    torch.testing.assert_close(plain(tokens).mean(0), torch.zeros(4), atol=1e-5, rtol=0)


def test_the_directions_kept_are_those_that_vary_most():
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(4000, DIRECTIONS, generator=generator)
    mixing = torch.randn(DIRECTIONS, 2 * DIRECTIONS, generator=generator)
    tokens = common @ mixing  # 256 features that only 128 directions explain
    lens = Lens(2 * DIRECTIONS)
    lens.fit([tokens])
    short = lens(tokens)
    assert short.shape == (4000, DIRECTIONS)
    back = torch.linalg.lstsq(short, tokens - tokens.mean(0)).solution
    torch.testing.assert_close(short @ back, tokens - tokens.mean(0), atol=0.01, rtol=0.01)


def test_few_texts_do_not_magnify_what_did_not_vary_in_them():
    tokens = torch.zeros(3, 6)
    tokens[:, 0] = torch.tensor([0.0, 1.0, 2.0])
    lens = Lens(6)
    assert not lens.is_fitted
    assert not lens(tokens).any()
    lens.fit([tokens])
    assert lens.is_fitted
    short = lens(torch.tensor([[2.0, 0.0, 0.0, 0.0, 0.0, 0.0], [2.0, 9.0, 9.0, 9.0, 9.0, 9.0]]))
    assert torch.equal(short[0], short[1])
    # (2 - 1) / sqrt(2 / 3) deviations, in one direction of six that together vary by 6.
    assert short[0].abs().sort().values.tolist() == pytest.approx([0, 0, 0, 0, 0, 1.5**0.5 * 6**0.5])
    alike = Lens(2)
    alike.fit([torch.ones(4, 2)])
    assert torch.isfinite(alike.directions).all()
