"""The methods paragraph follows what was run and cites what it uses."""

import re

from tsllm.evaluation.methods import DataFacts, MethodFacts, write_methods

PRICES = DataFacts("prices", 2, 134, 24, 24, "2016-08-20", "2016-12-31")
M3 = DataFacts("m3-monthly", 100, 1, 18, 18, "50", "126", "series")


def make_facts(**changes):
    given = {"data": [PRICES], "models": 9, "trained": 4, "reference": "SeasonalNaive", "seeds": [0, 1, 2]}
    return MethodFacts(**(given | changes))


def test_it_says_data_seeds_units_and_tests_as_they_were():
    text, *references = write_methods(make_facts(level=80, budgets=["Budgets were so."], ablated=["TimeLLM"]))
    for part in (
        "9 models were compared on one data set (prices: 2 series, 134 rolling origins, 24 steps apart (cutoffs from "
        "2016-08-20 to 2016-12-31), 24 steps ahead)",
        "The 4 trained models were fitted once, on the steps before the first cutoff, with 3 seeds (0, 1, 2).",
        "Budgets were so.",
        "the 80 % interval",
        "Seeds are a random effect",
        "Whether the language model of TimeLLM contributes",
    ):
        assert part in text
    assert "t-tests over series" not in text
    assert "Nemenyi" not in text
    assert references == sorted(references)


def test_every_citation_has_its_reference_and_no_reference_is_idle():
    for facts in (make_facts(), make_facts(level=80, ablated=["T"], ranked=True, data=[PRICES, M3])):
        text, *references = write_methods(facts)
        cited = set(re.findall(r"([A-Z][a-z]+)(?: and [A-Z][a-z]+| et al\.)?,? \(?\d{4}", text))
        assert cited == {reference.split(",")[0] for reference in references}


def test_what_is_estimated_anew_at_each_cutoff_is_named_beside_what_was_trained_once():
    text = write_methods(make_facts(anew=["MSTL", "LEAR"]))[0]
    assert (
        "were fitted once, on the steps before the first cutoff, with 3 seeds (0, 1, 2). MSTL and LEAR were estimated "
        "anew at each cutoff, on steps up to it."
    ) in text
    assert "No model was trained. MSTL was estimated anew" in write_methods(make_facts(trained=0, anew=["MSTL"]))[0]
    assert "anew at each cutoff" not in write_methods(make_facts())[0]


def test_other_runs_have_other_paragraphs():
    one = write_methods(make_facts(seeds=[7]))[0]
    assert "one seed (7)" in one
    assert "speak of the trained models and not of training anew" in one
    assert "The one trained model was fitted once" in write_methods(make_facts(trained=1))[0]
    none = write_methods(make_facts(trained=0))[0]
    assert "No model was trained." in none
    assert "eed" not in none.replace("freedom", "").replace("needed", "").replace("series and seeds", "")
    both = write_methods(make_facts(data=[PRICES, M3]))[0]
    assert "on m3-monthly are tested by paired t-tests over series, which are taken as independent" in both
    assert "1 rolling origin (cutoffs" not in both
    alone = write_methods(make_facts(data=[M3]))[0]
    assert "Diebold" not in alone
