"""What the pages say of the code is so: public names, blocks with their costs, how old the results are."""

import inspect
import re

import pytest
import yaml

import tsllm
from tests.docs.pages import ROOT, Block, Session, check_output, read_blocks, reader, run_page
from tsllm.evaluation.ablation import PERTURBATIONS, VARIANTS
from tsllm.nn.attention import ATTENTION
from tsllm.nn.conv import CONVS
from tsllm.nn.gating import FUSIONS, GATES
from tsllm.rl.rewards.known import FACTS

DOCS = ROOT / "docs"
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
SECTIONS = re.split(r"^### ", (DOCS / "blocks.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
BLOCKS = {name: text for text in SECTIONS for name in re.findall(r"`(\w+)`", text.splitlines()[0])}
GROWS = {"linear": "grows linear", "loglinear": "grows log-linear", "quadratic": "grows quadratic"}
RESULTS = sorted(page for page in (DOCS / "results").glob("*.md") if page.name != "index.md")
TABLES = {"MODELS", "DATASETS"}


@pytest.mark.parametrize("name", sorted(set(tsllm.__all__) - {"__version__"} - TABLES))
def test_each_public_name_stands_in_the_reference(name):
    assert f"::: {tsllm._LAZY[name]}.{name}\n" in REFERENCE


@pytest.mark.parametrize("name", [*ATTENTION, *GATES, *CONVS])
def test_each_block_stands_with_its_formula_and_the_cost_that_it_declares(name):
    block_class = next(table.get(name) for table in (ATTENTION, GATES, CONVS) if name in table)
    own = {"d_model": 8, "num_channels": 8, "length": 16, "num_heads": 2}
    taken = inspect.signature(block_class).parameters
    block = block_class(**{key: value for key, value in own.items() if key in taken})
    text = BLOCKS[name].split("**Cost**")
    assert len(text) == 2, f"{name}: a section needs one **Cost**"
    assert GROWS[block.cost] in text[1]
    assert ("Causal" in text[0]) >= (block.causal and name not in CONVS), (
        f"{name} is causal, and its section is silent"
    )


def test_no_section_is_about_a_block_that_is_gone():
    assert set(BLOCKS) == {*ATTENTION, *GATES, *CONVS, *FUSIONS}


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.stem)
def test_each_result_says_when_where_and_on_which_code_it_was_measured(page):
    facts = yaml.safe_load(page.read_text(encoding="utf-8").split("---\n")[1])
    assert set(facts) == {"measured", "commit", "machine", "seeds", "code"}
    assert re.fullmatch(r"[0-9a-f]{7,40}", str(facts["commit"]))
    assert facts["code"]
    assert [path for path in facts["code"] if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_a_list_begins_after_an_empty_line_or_it_is_no_list(page):
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    paragraphs = [text.splitlines() for text in re.split(r"\n\s*\n", prose)]
    begins = [[re.match(r"\s*(?:[-*]|\d+\.) ", line) is not None for line in lines] for lines in paragraphs]
    assert [lines for lines, starts in zip(paragraphs, begins, strict=True) if any(starts) and not starts[0]] == []


def test_every_page_stands_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert pages - set(re.findall(r"[\w/]+\.md", text)) == set()


def test_pictures_of_the_site_are_small():
    assert all(picture.stat().st_size < 100_000 for picture in (DOCS / "assets").iterdir())


def test_the_page_on_equal_numbers_runs(tmp_path):
    page = DOCS / "reproducibility.md"
    assert [block.language for block in read_blocks(page)] == ["python"]
    run_page(page, tmp_path)


def test_the_guides_name_every_fact_of_a_reward_and_every_variant_of_an_ablation():
    def read_first_cells(page):
        rows = re.findall(r"^\| (`[^|]*`) \|", (DOCS / "guides" / page).read_text(encoding="utf-8"), re.MULTILINE)
        return [name for row in rows for name in re.findall(r"`(\w+)`", row)]

    assert sorted(read_first_cells("own_parts.md")) == sorted(FACTS)
    assert read_first_cells("compare.md") == [*VARIANTS, *PERTURBATIONS]


# The runner itself: it must fail where a page is wrong.


def test_a_text_that_was_not_printed_is_refused():
    with pytest.raises(AssertionError, match="the page says"):
        check_output("error: 3 steps\n", "error: 4 steps\n")
    check_output("error: ... steps, told\nin two lines\n", "error: 4 steps, told in two lines\n")


def test_a_block_that_nobody_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither run nor marked"):
        Session(tmp_path).run(Block("bash", "curl example.org\n", ""))
    with pytest.raises(ValueError, match="neither run nor marked"):
        Session(tmp_path).run(Block("yaml", "a: 1\n", ""))
    Session(tmp_path).run(Block("bash", "curl example.org\n", "not run: no network"))


def test_a_command_that_ends_otherwise_than_the_page_says_is_refused(tmp_path):
    with reader(tmp_path) as session:
        with pytest.raises(AssertionError):
            session.run(Block("bash", "tsllm predict SeasonalNaive gone.csv --h 2\n", ""))
        session.run(Block("bash", "tsllm predict SeasonalNaive gone.csv --h 2\n", "fails"))
        assert "no file" in session.output
        with pytest.raises(AssertionError):
            session.run(Block("bash", "tsllm reward list\n", "fails"))


def test_an_unknown_note_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- sloww -->\n```bash\ntsllm doctor\n```\n")
    with pytest.raises(ValueError, match="sloww"):
        read_blocks(page)
