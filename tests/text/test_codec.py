import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tsllm.text.codec import NumberCodec, ParseFailure, SeriesScale

CODEC = NumberCodec(separator=",")
hostile = st.one_of(
    st.floats(-1e300, 1e300, allow_nan=False),
    st.floats(-1.0, 1.0),
    st.sampled_from([0.0, -0.0, 5e-324, 1e-300, 1e300, -1e300, 1e9 + 1e-7, math.pi]),
)


def test_levels_worked_by_hand():
    scale = SeriesScale(offset=10.0, resolution=0.5)
    assert CODEC.encode([10.0, 10.5, 12.24, 9.0, np.nan], scale) == "0,1,4,-2,?"
    assert CODEC.decode("0,1,4,-2", 4, scale).values.tolist() == [10.0, 10.5, 12.0, 9.0]


def test_scale_uses_the_central_span_and_its_margin():
    scale = CODEC.fit(np.linspace(0.0, 100.0, 101))  # quantiles 1 and 99
    assert scale.resolution == pytest.approx(98 * 1.5 / 1000)
    assert scale.offset == pytest.approx(1 - 0.25 * 98)


@given(st.lists(hostile, min_size=1, max_size=20), st.integers(1, 6))
@settings(max_examples=300, deadline=None)
def test_round_trip_stays_within_half_a_resolution(values, digits):
    codec = NumberCodec(digits=digits, separator=",")
    scale = codec.fit(values)
    assert scale.resolution > 0
    far = max(abs(v / scale.resolution - scale.offset / scale.resolution) for v in values)
    assume(not 0.9e15 < far < 1.1e15)
    if far > 1e15:
        with pytest.raises(ValueError, match="resolutions"):
            codec.encode(values, scale)
        return
    text = codec.encode(values, scale)
    parsed = codec.decode(text, len(values), scale)
    error = np.abs(parsed.values - np.asarray(values))
    bound = scale.resolution * 0.5 * (1 + 1e-6) + 8 * np.finfo(float).eps * np.maximum(
        np.abs(values), abs(scale.offset)
    )
    assert (error <= bound).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.floats(0.1, 1e4), st.floats(-1e5, 1e5))
@settings(max_examples=100, deadline=None)
def test_text_does_not_depend_on_units(values, a, b):
    values = np.asarray(values)
    if np.ptp(values) < 1e-3:
        return
    first = CODEC.encode(values, CODEC.fit(values)).split(",")
    second = CODEC.encode(a * values + b, CODEC.fit(a * values + b)).split(",")
    assert all(abs(int(x) - int(y)) <= 1 for x, y in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("text", "failure", "found"),
    [
        ("", ParseFailure.EMPTY, 0),
        (" \n ,", ParseFailure.EMPTY, 0),
        ("1,2", ParseFailure.TOO_SHORT, 2),
        ("1,2,3,4", ParseFailure.TOO_LONG, 4),
        ("1,?,3", ParseFailure.MISSING_VALUE, 3),
        ("1,two,3", ParseFailure.NOT_A_NUMBER, 1),
        ("1,2,3 and so on", ParseFailure.NOT_A_NUMBER, 3),
        ("1,2,1e9", ParseFailure.NOT_A_NUMBER, 2),
        ("1,2,nan", ParseFailure.NOT_A_NUMBER, 2),
        ("1,2," + "9" * 400, ParseFailure.NOT_A_NUMBER, 2),
        ("١,٢,٣", ParseFailure.NOT_A_NUMBER, 0),
    ],
)
def test_bad_completions_fail_with_their_type(text, failure, found):
    parsed = CODEC.decode(text, 3, SeriesScale(0.0, 1.0))
    assert (parsed.values, parsed.failure, parsed.num_found) == (None, failure, found)


def test_tolerated_spellings_read_the_same():
    scale = SeriesScale(0.0, 2.0)
    for text in ("1,-2,3", " 1 , -2 ; 3\n", "+1\n-2\n3", "1.0 -2. 3.0"):
        assert CODEC.decode(text, 3, scale).values.tolist() == [2.0, -4.0, 6.0]


def test_extra_numbers_are_counted_when_allowed():
    parsed = CODEC.decode("1,2,3,4,5 etc", 3, SeriesScale(0.0, 1.0), allow_extra=True)
    assert parsed.values.tolist() == [1.0, 2.0, 3.0]
    assert parsed.num_extra == 2


def test_an_outlier_too_far_to_write_is_an_error_that_names_the_step():
    scale = CODEC.fit([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="at step 1"):
        CODEC.encode([1.0, 1e250], scale)
    with pytest.raises(ValueError, match="finite"):
        CODEC.encode([math.inf], scale)
    with pytest.raises(ValueError, match="no observed value"):
        CODEC.fit([math.nan])


def test_constant_series_can_be_written():
    for value in (0.0, 5.0, -1e299, 1e-310):
        scale = CODEC.fit([value] * 5)
        parsed = CODEC.decode(CODEC.encode([value], scale), 1, scale)
        assert parsed.values[0] == pytest.approx(value, rel=1e-2, abs=1e-280)
