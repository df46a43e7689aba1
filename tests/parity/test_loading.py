"""How the adapters find the arguments of a recorded call and the adapter of a class."""

import pytest

from tests.parity.loading import find_option
from tests.parity.test_golden import find_adapter

NAME = "query_multi_segment"


@pytest.mark.parametrize(
    ("meta", "value"),
    [
        ({"call_kwargs": {NAME: True}}, True),
        ({"call_kwargs": {NAME: "False"}}, False),
        ({"call": f"out.y = attention(in.q, in.k, in.v, None, {NAME}=True, key_multi_segment=False)"}, True),
        ({"call": f"out.y = attention(in.q, in.k, in.v, {NAME} = False)"}, False),
        ({"call": f"{NAME}=key_multi_segment=True"}, True),
        ({"notes": ["nothing", f"with {NAME}: true"]}, True),
        ({"call": "block(in.x, H=8, W=4)", "inputs": {NAME: True}}, None),
        ({"call": f"attention({NAME})"}, None),
        ({}, None),
    ],
)
def test_an_option_of_the_call_is_found_wherever_it_is_stated(meta, value):
    assert find_option(meta, NAME) is value


def test_numbers_are_read_from_texts_and_lists():
    assert find_option({"call": "block(in.x, H=8, W=4)"}, "H") == 8
    assert find_option({"call": "block(in.x, H=8, W=4)"}, "W") == 4
    assert find_option({"call_kwargs": {"hw_shape": [8, 10]}}, "hw_shape") == [8, 10]


def test_a_class_is_found_under_another_module_unless_two_have_its_name():
    table = {("a", "x.Block"): 1, ("a", "y.Layer"): 2, ("a", "z.Layer"): 3, ("b", "Block"): 4}
    assert find_adapter(table, ("a", "x.Block")) == 1
    assert find_adapter(table, ("a", "other.Block")) == 1
    assert find_adapter(table, ("a", "z.Layer")) == 3
    assert find_adapter(table, ("a", "w.Layer")) is None
    assert find_adapter(table, ("c", "Block")) is None
