"""Names are shown as they are in Markdown and figures."""

import pandas as pd
import pytest
from huggingface_hub import ModelCardData
from matplotlib.figure import Figure

from tsllm.escape import escape_cell, escape_fenced, escape_label, escape_markdown, first_line
from tsllm.evaluation.report import Report, Section, TableBlock
from tsllm.hub.plot import draw_forecast
from tsllm.hub.templates import render_card


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("<!-- x -->", "&lt;!-- x -->"),
        ("p < .05 and 1<2", "p < .05 and 1<2"),
        ("[a](javascript:x)", r"[a]\(javascript:x)"),
        ("two\nlines\x00", "two lines "),
    ],
)
def test_markdown_begins_no_html_and_no_link(given, shown):
    assert escape_markdown(given) == shown


def test_cells_and_fences_cannot_be_left():
    assert escape_cell("a|b") == r"a\|b"
    assert "```" not in escape_fenced("x\n```\n# heading")


@pytest.mark.parametrize(
    "name", ["$x$", "a$b", "$\\frac{1}$", "cost in $ and $", "[kW]", "[/bold]", "two\nlines", "_hidden"]
)
def test_figures_draw_any_name_as_it_is(name, tmp_path):
    label = escape_label(name)
    figure = Figure()
    text = figure.text(0.5, 0.5, label)
    figure.savefig(tmp_path / "x.png")  # a formula that cannot be parsed raises here
    assert text._preprocess_math(label)[0].strip() == name.replace("\n", " ")
    assert text._preprocess_math(label)[1] is False
    frame = pd.DataFrame({"unique_id": name, "ds": range(6), "y": 1.0, name + "f": 2.0})
    draw_forecast(frame, frame.tail(2), tmp_path / "f.png", name + "f")
    assert (tmp_path / "f.png").stat().st_size > 1000


def test_long_labels_are_shortened_visibly():
    assert escape_label("x" * 200) == "x" * 79 + "…"


EVIL = "<img src=x onerror=alert(1)>|[a](javascript:x)"


def test_reports_escape_what_stands_in_them():
    table = TableBlock(pd.DataFrame({"model": [EVIL], "mae": [1.0]}), EVIL)
    report = Report(EVIL, [EVIL], [Section(EVIL, [EVIL], [table], code="```\n<b>")], {EVIL: EVIL})
    text = report.to_markdown()
    assert "<img" not in text
    assert "](javascript" not in text
    row = next(line for line in text.splitlines() if line.startswith("| ") and "1" in line and "mae" not in line)
    assert row.replace(r"\|", "").count("|") == 3
    assert "<img" not in report.to_html()


def test_cards_escape_every_value_and_keep_their_metadata():
    values = {
        "title": EVIL, "summary": EVIL, "load_name": '")```\n<b>',
        "config": {"context_length": 1, "prediction_length": 2},
        "metrics": {"test": None, "environment": {"command": "```\n<script>"}}, "plot": None, "has_intervals": True,
        "score_names": [], "score_rows": [], "model_facts": [(EVIL, EVIL)], "data_facts": [(EVIL, EVIL)],
        "training_facts": [], "data_name": EVIL, "base_model": EVIL, "citations": [EVIL],
    }  # fmt: skip
    card = render_card("card.md.j2", ModelCardData(model_name="x", library_name="tsllm", tags=["a"]), **values)
    assert card.data.to_dict()["library_name"] == "tsllm"
    body = card.text
    assert "<img" not in body
    assert "](javascript" not in body
    assert body.count("```") % 2 == 0
    fences = body.split("```")
    assert "<script>" in fences[3]  # within the fence, where it is text
    assert all("<script>" not in part for part in fences[::2])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("We couldn't connect.\nCheck it.\n", "We couldn't connect"),
        ("\n  a\tb \nc", "a b"),
        ("", ""),
        ("v1.5", "v1.5"),
    ],
)
def test_the_first_line_of_a_text_stands_in_a_sentence(text, line):
    assert first_line(OSError(text)) == line
