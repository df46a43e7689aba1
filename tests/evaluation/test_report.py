import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from tests.evaluation.test_prototypes import make_attention
from tsllm.evaluation import figures
from tsllm.evaluation.backtest import Failure, run_backtest
from tsllm.evaluation.findings import describe_failures, describe_model, describe_winner
from tsllm.evaluation.report import Report, Section, TableBlock, describe_environment, write_cell
from tsllm.evaluation.significance import COLUMNS, compare_to, friedman_nemenyi
from tsllm.evaluation.tables import (
    LEGEND,
    SeriesScales,
    WindowArrays,
    compute_step_skill,
    compute_window_losses,
    score,
    training_part,
)
from tsllm.forecasting.naive import Naive, SeasonalNaive

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)

REWARDS = [{"step": s, "reward": 0.1 * s} for s in (1, 2, 3)] + [{"step": s, "eval_reward": 5.0 - s} for s in (2, 4)]


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    parts = []
    for k, name in enumerate(("north", "south")):
        y = 50 * (k + 1) + 10 * np.sin(np.arange(500) * 2 * np.pi / 24) + rng.normal(size=500)
        parts.append(pd.DataFrame({"unique_id": name, "ds": pd.date_range("2024", periods=500, freq="h"), "y": y}))
    df = pd.concat(parts, ignore_index=True)
    models = [SeasonalNaive(24), SeasonalNaive(48, "TwoDays"), Naive()]
    result = run_backtest(df, models, 12, 10, 12, [50, 80])
    table = score(result, SeriesScales.from_training(training_part(df, result), 24))
    table["seconds"] = [0.1, 1.0, 10.0]
    arrays = WindowArrays.of(result.frame, result.models, 12, result.level)
    losses = compute_window_losses(arrays)
    pairs = compare_to(losses, "SeasonalNaive")
    ranks = friedman_nemenyi(losses[result.models])
    log = [{"step": s, "loss": 1 / s} for s in (10, 20)] + [{"step": s, "eval_loss": 2 / s} for s in (10, 20)]
    return Report(
        title="A test <report>",
        finding=[*describe_winner(table, pairs, unit="MW"), "Second & last."],
        sections=[
            Section(
                "Accuracy",
                ["A paragraph."],
                [
                    TableBlock(
                        table,
                        "Scores",
                        {"mae": True, "skill": False},
                        notes={c: LEGEND[c][0] for c in LEGEND},
                        below=["Series x < y are left out."],
                    )
                ],
                [figures.draw_skill_intervals(pairs), figures.draw_critical_difference(ranks)],
            ),
            Section(
                "Pictures",
                pictures=[
                    figures.draw_forecasts(df, result.frame, result.models, 48, 80),
                    figures.draw_step_skill(compute_step_skill(arrays, "SeasonalNaive"), "SeasonalNaive"),
                    figures.draw_cost(table),
                    figures.draw_training({"TwoDays": log}),
                    figures.draw_rewards({"TwoDays": REWARDS, "Naive": REWARDS[:3]}),
                    figures.draw_prototypes("TwoDays", make_attention(12), 2),
                ],
                code="tsllm backtest data.csv --h 12",
            ),
        ],
        facts=describe_environment([0, 1]),
    )


class Outline(HTMLParser):
    """Collects what the page holds, and complains about tags that are not closed."""

    VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use", "rect", "circle", "stop", "line", "polygon"}

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(html):
    outline = Outline()
    outline.feed(html)
    assert outline.open == []
    return outline


def test_page_is_well_formed_escaped_and_the_finding_comes_first(report):
    html = report.to_html()
    outline = parse(html)
    assert "A test &lt;report&gt;" in html
    text = " ".join(outline.text)
    assert text.index("SeasonalNaive") < text.index("Scores")
    assert text.index("Second & last.") < text.index("A paragraph.")
    assert text.index("A paragraph.") < text.index("Series x < y are left out.")


def test_page_loads_nothing_from_elsewhere(report):
    html = report.to_html()
    for _tag, attributes in parse(html).attributes:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
    styles = re.sub(r"xmlns(:\w+)?=\"[^\"]*\"", "", html)
    assert not re.search(r"https?://|@import|url\((?!#)", styles)


def test_every_figure_says_in_words_what_it_shows(report):
    outline = parse(report.to_html())
    pictures = [a for tag, a in outline.attributes if a.get("role") == "img"]
    drawn = [tag for tag, _ in outline.attributes if tag == "svg"]
    assert len(pictures) == len(drawn) == 8
    assert all(len(a["aria-label"]) > 40 for a in pictures)
    assert any("Naive" in a["aria-label"] and "% at step 12" in a["aria-label"] for a in pictures)


def test_lines_differ_in_more_than_colour():
    styles = [figures.style_of(k) for k in range(8)]
    assert len({(str(s["linestyle"]), s["marker"]) for s in styles}) == 8


def test_one_bad_step_does_not_flatten_the_lines_and_is_told():
    steps = pd.DataFrame({"step": [1, 2, 3], "Base": 0.0, "Good": [0.1, 0.2, 0.3], "Bad": [0.5, -49.0, 0.2]})
    caption = figures.draw_step_skill(steps, "Base").caption
    assert caption.endswith("The axis ends at -150 %; further down go Bad to -4,900 %.")
    assert "axis ends" not in figures.draw_step_skill(steps.drop(columns="Bad"), "Base").caption


def test_the_axis_of_steps_ends_where_the_forecasts_end():
    steps = pd.DataFrame({"step": range(1, 25), "Base": 0.0, "Good": np.linspace(0.1, 0.2, 24)})
    svg = figures.draw_step_skill(steps, "Base").svg
    assert ">24</text>" in svg
    assert not re.search(r">(0|25|30)</text>.*step ahead", svg, re.DOTALL)


@pytest.mark.parametrize("count", [6, 7])
def test_many_points_are_named_in_a_legend_few_beside_them(count):
    table = pd.DataFrame({"model": [f"M{k}" for k in range(count)], "mae": 1.0, "seconds": range(1, count + 1)})
    svg = figures.draw_cost(table).svg
    assert svg.count(">M3<") == 1
    assert ("legend" in svg) == (count > 6)


def test_rewards_are_drawn_by_model_and_curve_and_told_in_words():
    picture = figures.draw_rewards({"A": REWARDS, "B": REWARDS[:3]})
    assert "A, training groups: 0.1 at step 1, 0.3 at step 3, at best 0.3" in picture.alt
    assert "A, validation decisions: 3 at step 2, 1 at step 4, at best 3" in picture.alt
    assert "B, validation" not in picture.alt
    figure = figures.plot_rewards({"A": REWARDS, "B": REWARDS[:3]})
    shown = [ax.get_title(loc="left") for ax in figure.axes if ax.get_visible()]
    assert shown == ["A: training groups", "A: validation decisions", "B: training groups"]
    with pytest.raises(ValueError, match=r"no reward in the logs of \['C'\]"):
        figures.plot_rewards({"A": REWARDS, "C": [{"step": 1, "loss": 2.0}]})


def test_best_cells_are_marked_and_missing_numbers_are_dashes(report):
    frame = pd.DataFrame({"model": ["a", "b", "c"], "mae": [2.0, 1.0, np.nan], "skill": [0.1, 0.3, np.nan]})
    rows = TableBlock(frame, "t", {"mae": True, "skill": False}, {"skill": ".0%"}).rows()
    assert rows == [
        [("a", False), ("2", False), ("10%", False)],
        [("b", False), ("1", True), ("30%", True)],
        [("c", False), ("–", False), ("–", False)],
    ]
    assert write_cell(1234567) == "1,234,567"
    assert [write_cell(p, "p") for p in (9.9e-5, 1e-4, 0.05, float("nan"))] == ["< 0.0001", "0.0001", "0.0500", "–"]


def test_what_has_no_rank_is_never_marked_and_is_left_out_of_error_against_seconds():
    frame = pd.DataFrame({"model": ["a", "b", "c"], "mae": [2.0, 1.0, 1.0], "failed": [0, 0, 29], "seconds": 1.0})
    rows = TableBlock(frame[["model", "mae"]], "t", {"mae": True}, unranked=["b"]).rows()
    assert [marked for _, (_, marked) in rows] == [False, False, True]
    rows = TableBlock(frame[["model", "mae"]], "t", {"mae": True}, unranked=["b", "c"]).rows()
    assert [marked for _, (_, marked) in rows] == [True, False, False]
    picture = figures.draw_cost(frame)
    assert picture.alt == "Error against seconds: a 2 in 1.0 s; b 1 in 1.0 s."
    assert picture.caption.endswith("Left out, as windows lack a forecast: c.")
    assert ">c<" not in picture.svg


def test_markdown_holds_the_same_tables_and_the_words_of_the_figures(report):
    text = report.to_markdown()
    assert text.startswith("# A test &lt;report>")
    assert "| SeasonalNaive |" in text
    assert text.count("*Figure.*") == 8
    assert "\nSeries x < y are left out.\n" in text
    assert "- seeds: 0, 1" in text


def test_the_typical_window_is_the_median_one():
    frame = pd.DataFrame({"unique_id": "a", "cutoff": [1, 2, 3, 4], "y": [0.0] * 4, "M": [5.0, 1.0, 3.0, 9.0]})
    assert figures.pick_typical_window(frame, "a", "M") == 3
    assert figures.pick_typical_window(frame.assign(y=float("nan")), "a", "M") == 4  # nothing observed: the last one


FEW = "4 cutoffs are too few to tell (10 needed)"


def make_pairs(**verdicts):
    notes = {m: FEW if v == "not tested" else "" for m, v in verdicts.items()}
    rows = [(m, "A", -0.1, -0.2, -0.05, 0.001, 0.002, v, 20, "cutoff", 3, 1, 2, notes[m]) for m, v in verdicts.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_words_never_say_more_than_the_tests():
    table = pd.DataFrame({"model": ["A", "B", "C"], "mae": [1.0, 1.1, 1.2], "failed": [0, 0, 0]})
    sure = describe_winner(table, make_pairs(B="worse", C="worse"), unit="MW")
    assert sure[0] == "A wins: MAE 1 MW, significantly less than every other model."
    assert "B (its error is 10.0 % higher [5.0, 20.0], p = .002)" in sure[1]
    unsure = describe_winner(table, make_pairs(B="no difference shown", C="worse"))
    assert (
        unsure[0] == "A has the lowest error (MAE 1), but the test, adjusted for all pairs, does not tell it from B."
    )
    untested = describe_winner(table, make_pairs(B="not tested", C="not tested"))
    assert untested[0] == f"A has the lowest error (MAE 1); not tested against B and C ({FEW})."


def test_a_model_that_failed_is_named_and_not_ranked():
    table = pd.DataFrame({"model": ["A", "B"], "mae": [1.0, 0.5], "failed": [0, 3]})
    words = describe_winner(table, make_pairs(B="not tested"))
    assert words[0] == "A alone forecast every window (MAE 1), so there is nothing to rank it with."
    assert "B gave no forecast in 3 windows" in words[-1]
    failures = [Failure("B", "predict", 1, "E: x", 1), Failure("B", "predict", 2, "E: x", 2)]
    assert describe_failures(failures) == ["B failed in 3 windows, counted in each series (predict): E: x"]


def test_one_model_in_words():
    table = pd.DataFrame({"model": ["A", "B"], "mae": [1.0, 1.1]})
    apart = describe_model("B", table, make_pairs(B="worse"), variants_apart=True)
    assert apart.startswith("B is number 2 of 2 (variants are not ranked): 10.0 % more error than A (")
    assert describe_model("B", table, make_pairs(B="worse")) == (
        "B is number 2 of 2: 10.0 % more error than A (adjusted 95 % interval 5.0 to 20.0 %), a significant loss "
        "(p = .002, adjusted for the comparisons with A alone)."
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [390, 1200])
def test_headless_chromium_opens_the_page_and_it_fits_its_width(report, tmp_path, width):
    page = report.save(tmp_path / "report.html")
    probe = (
        "<script>document.title = JSON.stringify({over: document.documentElement.scrollWidth - window.innerWidth, "
        "tables: [...document.querySelectorAll('.scroll')].map(s => s.scrollWidth - s.clientWidth), "
        "tall: document.documentElement.scrollHeight, svg: [...document.querySelectorAll('figure svg')]"
        ".map(s => s.getBoundingClientRect().height), code: [...document.querySelectorAll('pre')]"
        ".map(s => s.scrollWidth - s.clientWidth), hints: [...document.querySelectorAll('.scroll')]"
        ".map(s => getComputedStyle(s).backgroundAttachment)})</script>"
    )
    page.write_text(page.read_text().replace("</body>", probe + "</body>"))
    # The window frame keeps headless Chromium from going below 500 pixels, so a phone is an iframe.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id="f" src="report.html" style="width:{width}px;height:800px;border:0"></iframe>'
        "<script>f.onload = () => document.body.insertAdjacentHTML('beforeend', '<pre id=out>' + "
        "f.contentDocument.title + '</pre>')</script>"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *options, f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=5000", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    state = pd.io.json.ujson_loads(found[1])
    assert state["over"] <= 0
    assert state["tall"] > 800
    assert len(state["svg"]) == 8
    assert min(state["svg"]) > 80
    assert max(state["code"]) <= 0
    assert set(state["hints"]) == {"local, local, scroll, scroll, scroll"}, "no shadow says that a table scrolls"
    if width == 1200:
        assert max(state["tables"]) <= 0, "a table needs a scroll bar"


def test_the_page_is_dark_where_that_is_preferred_and_figures_keep_their_ground(report):
    style = report.to_html().split("</style>")[0]
    dark = style[style.index("prefers-color-scheme: dark") :]
    assert "--page: #15181b" in dark
    assert "figure svg { background: #fff" in dark
    # Every colour of the page goes by the scheme: none is set beside the variables.
    rules = style[style.index("* {") :]
    assert not re.search(r"#[0-9a-fA-F]{3,6}\b", rules)


def test_a_report_links_to_what_is_written_beside_it(tmp_path):
    frame = pd.DataFrame({"series": ["a"], "mae": [1.5]})
    made = Report(
        "Run", ["Done."], [], {}, {"a b.parquet": "forecasts"}, {"a b.parquet": frame, "config.yaml": "h: 3"}
    )
    made.save(tmp_path / "report.html")
    links = [a["href"] for tag, a in parse((tmp_path / "report.html").read_text()).attributes if tag == "a"]
    assert links == ["a%20b.parquet"]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a b.parquet"), frame)
    assert (tmp_path / "config.yaml").read_text() == "h: 3"
    assert "[a b.parquet](a%20b.parquet): forecasts" in (tmp_path / "report.md").read_text()


def test_figures_of_tests_say_which_of_them_are_adjusted():
    from tsllm.evaluation.compare_report import _show_tests

    table = _show_tests(make_pairs(B="worse"), "Tests", 1, 1, False)
    assert table.below[-1].startswith("skill here: of the scaled absolute error, which is tested;")
    labels = [table.label(c) for c in ("low", "high", "p_value", "p_holm")]
    assert labels == ["low (adjusted)", "high (adjusted)", "p value (not adjusted)", "p holm (adjusted)"]


def test_a_model_has_one_colour_in_all_figures_of_a_report():
    times = pd.date_range("2024", periods=6, freq="h")
    window = pd.DataFrame({"ds": times[3:], "Base": 1.0, "Good": 2.0, "Fair": 3.0})
    _, ax = figures.new_figure()
    order = ["Good", "Fair", "Base"]
    figures.draw_panel(ax, pd.DataFrame({"ds": times, "y": 1.0}), window, {"Fair": [], "Base": []}, times[2], order)
    drawn = {line.get_label(): line.get_color() for line in ax.get_lines()}
    assert (drawn["Fair"], drawn["Base"]) == (figures.COLOURS[1], figures.COLOURS[2])
    steps = pd.DataFrame({"step": [1, 2], "Base": [0.0, 0.0], "Fair": [0.1, 0.2]})
    svg = figures.draw_step_skill(steps, "Base", order).svg
    assert figures.COLOURS[1].lower() in svg.lower()
    assert figures.COLOURS[0].lower() not in svg.lower()


@pytest.mark.parametrize("h", [1, 2, 7, 24, 48, 96, 720])
def test_the_axis_of_steps_ends_at_the_last_step_and_names_it(h, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "to_svg", lambda figure: drawn.append(figure) or "")
    steps = pd.DataFrame({"step": range(1, h + 1), "Base": 0.0, "A model of a long name": np.linspace(0, 0.1, h)})
    figures.draw_step_skill(steps, "Base")
    (ax,) = drawn[0].axes
    assert ax.get_xlim() == ((1, h) if h > 1 else (0.5, 1.5))
    ticks = ax.get_xticks().tolist()
    assert (ticks[0], ticks[-1]) == (1, h)
    assert len(ticks) <= 10
    assert all(tick == int(tick) for tick in ticks)
    # The labels stand beside the axis, and within the picture.
    drawn[0].draw_without_rendering()
    for text in ax.texts:
        box = Text.get_window_extent(text)  # without its arrow
        assert box.x0 > ax.bbox.x1
        assert box.x1 <= drawn[0].bbox.x1
