"""The phrases of limits: what is held out is held out, and a sentence says what happens to the prices."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def phrases(load_script):
    return load_script("limit_phrases")


def test_no_wording_of_the_tests_is_one_of_training(phrases):
    for own in phrases.PHRASES.values():
        assert len(own) == len(set(own)) == 22
    assert len(set(phrases.FORMS)) == 9
    for pools in (phrases.POOLS, phrases.TRIED_POOLS):
        seen, words, forms = pools.values()
        assert not set(seen.phrases) & set(words.phrases)
        assert set(words.forms) <= set(seen.forms)
        assert not set(seen.phrases) & set(forms.phrases)
        assert not set(seen.forms) & set(forms.forms)
    tried = phrases.TRIED_POOLS.values()
    assert {k for pool in tried for k in pool.phrases} <= set(phrases.SEEN.phrases)
    assert {k for pool in tried for k in pool.forms} <= set(phrases.SEEN.forms)


def test_a_sentence_names_the_hours_that_it_changes(phrases):
    rng = np.random.default_rng(0)
    for kind, level in ((phrases.FLOOR, -2.0), (phrases.CAP, 3.0), (phrases.NOTHING, None)):
        for pool in phrases.POOLS.values():
            told = phrases.write_told(rng, kind, pool)
            assert f"{told.start:02d}:00" in told.text
            assert f"{told.end:02d}:00" in told.text
            assert any(phrases.PHRASES[kind][k] in told.text for k in pool.phrases)
            changed = phrases.apply_told(told, np.zeros(24), -2.0, 3.0)
            hours = np.flatnonzero(changed).tolist()
            assert hours == ([] if level is None else list(range(told.start, told.end)))
            assert set(changed[hours]) <= {level}


def test_events_lie_in_the_future_alone_and_shares_are_of_their_error(load_script, phrases):
    limits = load_script("context_limits")
    times = pd.date_range("2024-01-01", periods=24 * 6, freq="h")
    events = limits.Events(np.arange(144.0), times, {phrases.FLOOR: -1.0, phrases.CAP: 500.0})
    told = phrases.Told(phrases.CAP, "At the cap.", 2, 4)
    frame = events.frame([(4, told), (5, told)], with_future=True)
    first = frame.loc[frame["unique_id"] == "day-0000", "y"].to_numpy()
    assert first[:98].tolist() == list(range(98))
    assert first[98:100].tolist() == [500, 500]
    assert first[100:].tolist() == list(range(100, 120))
    news = events.news([(4, told)]).iloc[0]
    assert (news["published"], news["start"], news["end"]) == (times[72], times[96], times[96] + pd.Timedelta("1D"))
    errors = {"none": 1.0, "told": 0.4, "none, written": 0.2}
    assert limits.find_share(errors, "none") == "75 %"
