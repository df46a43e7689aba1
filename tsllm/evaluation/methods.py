"""The methods paragraph of a comparison, written from what was run, with its sources; to be pasted into a paper."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tsllm.evaluation.findings import join_words
from tsllm.evaluation.significance import Unit

SOURCES = {
    "dm": "Diebold, F. X. and Mariano, R. S. (1995). Comparing predictive accuracy. Journal of Business & Economic "
    "Statistics 13(3), 253-263.",
    "ewc": "Lazarus, E., Lewis, D. J., Stock, J. H. and Watson, M. W. (2018). HAR inference: recommendations for "
    "practice. Journal of Business & Economic Statistics 36(4), 541-559.",
    "mueller": "Mueller, U. K. (2007). A theory of robust long-run variance estimation. Journal of Econometrics "
    "141(2), 1331-1352.",
    "fieller": "Fieller, E. C. (1954). Some problems in interval estimation. Journal of the Royal Statistical Society "
    "B 16(2), 175-185.",
    "holm": "Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of "
    "Statistics 6(2), 65-70.",
    "satterthwaite": "Satterthwaite, F. E. (1946). An approximate distribution of estimates of variance components. "
    "Biometrics Bulletin 2(6), 110-114.",
    "mase": "Hyndman, R. J. and Koehler, A. B. (2006). Another look at measures of forecast accuracy. International "
    "Journal of Forecasting 22(4), 679-688.",
    "relative": "Fleming, P. J. and Wallace, J. J. (1986). How not to lie with statistics: the correct way to "
    "summarize benchmark results. Communications of the ACM 29(3), 218-221.",
    "wql": "Gneiting, T. and Raftery, A. E. (2007). Strictly proper scoring rules, prediction, and estimation. "
    "Journal of the American Statistical Association 102(477), 359-378.",
    "nemenyi": "Demsar, J. (2006). Statistical comparisons of classifiers over multiple data sets. Journal of Machine "
    "Learning Research 7, 1-30.",
    "tan": "Tan, M., Merrill, M. A., Gupta, V., Althoff, T. and Hartvigsen, T. (2024). Are language models actually "
    "useful for time series forecasting? Advances in Neural Information Processing Systems 37.",
}


EACH_WINDOW = "anew at each window"


@dataclass(frozen=True)
class DataFacts:
    """One data set of a comparison.

    Attributes:
        name: Data set.
        series: How many.
        windows: Cutoffs of each series.
        h: Steps ahead.
        step: Steps between cutoffs.
        first: First cutoff.
        last: Last cutoff.
        unit: What its tests pair.
    """

    name: str
    series: int
    windows: int
    h: int
    step: int
    first: str
    last: str
    unit: Unit = "cutoff"


@dataclass(frozen=True)
class MethodFacts:
    """What a methods paragraph needs to know of a comparison.

    Attributes:
        data: Data sets.
        models: How many models are compared, variants included.
        trained: How many of them are trained here.
        reference: Alias that skill and tests refer to.
        seeds: Of the trained models.
        refit: How often trained models are fitted, in words after "Trained models were fitted".
        selection: How settings were chosen, a sentence or more; empty = as given.
        anew: Models that are estimated anew at each cutoff.
        once: Statistical models that are estimated when the trained ones are fitted.
        days: Whether trained and statistical models learn from the same steps, a sentence or two; empty = unsaid.
        budgets: What training got, from `describe_budgets` for one data set, a sentence each for several.
        level: Coverage of the widest interval, per cent; None = point forecasts only.
        ablated: Aliases of models whose variants without a language model were compared.
        ranked: Whether a critical-difference diagram is shown.
    """

    data: Sequence[DataFacts]
    models: int
    trained: int
    reference: str
    seeds: Sequence[int]
    refit: str = "once, on the steps before the first cutoff"
    selection: str = ""
    anew: Sequence[str] = field(default_factory=tuple)
    once: Sequence[str] = field(default_factory=tuple)
    days: str = ""
    budgets: Sequence[str] = field(default_factory=tuple)
    level: float | None = None
    ablated: Sequence[str] = field(default_factory=tuple)
    ranked: bool = False


def write_methods(facts: MethodFacts) -> list[str]:
    """Writes the methods paragraph and its references.

    Args:
        facts: What was run.

    Returns:
        The paragraph, then one reference each, in alphabetical order.
    """
    cited: list[str] = []
    parts = [_describe_data(facts), _describe_training(facts), _describe_scores(facts, cited)]
    parts.append(_describe_tests(facts, cited))
    if facts.ranked:
        cited.append("nemenyi")
        parts.append(
            "Ranks over data sets are compared by Friedman's test and Nemenyi's critical difference (Demsar, 2006)."
        )
    if facts.ablated:
        cited.append("tan")
        parts.append(
            f"Whether the language model of {join_words(list(facts.ablated))} contributes is judged, after Tan et al. "
            "(2024), against variants without a pretrained one, trained by the same rule."
        )
    return [" ".join(part for part in parts if part), *sorted(SOURCES[key] for key in cited)]


def _describe_data(facts: MethodFacts) -> str:
    said = []
    for one in facts.data:
        apart = "" if one.windows == 1 else f", {one.step} steps apart"
        where = f"cutoffs from {one.first} to {one.last}" if one.windows > 1 else f"cutoff {one.first}"
        said.append(
            f"{one.name}: {one.series} series, {one.windows} rolling origin{'s' if one.windows > 1 else ''}{apart} "
            f"({where}), {one.h} steps ahead"
        )
    sets = f"{len(said)} data sets" if len(said) > 1 else "one data set"
    return (
        f"{facts.models} models were compared on {sets} ({'; '.join(said)}). All models forecast the same windows; "
        "whatever is scaled or chosen uses steps before the first cutoff only."
    )


def _describe_training(facts: MethodFacts) -> str:
    were = "was" if len(facts.anew) == 1 else "were"
    anew = f" {join_words(facts.anew)} {were} estimated anew at each cutoff, on steps up to it." if facts.anew else ""
    if facts.once:
        were = "was" if len(facts.once) == 1 else "were"
        on = "" if facts.refit == EACH_WINDOW else ", and run on from there"
        anew = f" {join_words(facts.once)} {were} estimated {facts.refit}{on}.{anew}"
    anew += f" {facts.days}" if facts.days else ""
    if not facts.trained:
        return f"No model was trained.{anew}"
    count = len(facts.seeds)
    seeds = f"{count} seeds ({', '.join(map(str, facts.seeds))})" if count > 1 else f"one seed ({facts.seeds[0]})"
    trained = "The one trained model was" if facts.trained == 1 else f"The {facts.trained} trained models were"
    said = [f"{trained} fitted {facts.refit}, with {seeds}.{anew}"]
    if facts.selection:
        said.append(facts.selection)
    return " ".join([*said, *facts.budgets])


def _describe_scores(facts: MethodFacts, cited: list[str]) -> str:
    cited += ["mase", "relative"]
    said = (
        "Absolute errors are scaled by each series' standard deviation in its training part, or by the error of the "
        "seasonal naive there (MASE; Hyndman and Koehler, 2006); series without variation in training are left out of "
        f"scaled averages. Models are ranked by the MAE relative to {facts.reference}, as the geometric mean over "
        f"series (Fleming and Wallace, 1986) that vary in training and where {facts.reference} makes an error."
    )
    if facts.level is not None:
        cited.append("wql")
        said += (
            f" Quantile forecasts are scored by the weighted quantile loss (Gneiting and Raftery, 2007) and the "
            f"coverage of the {facts.level:g} % interval."
        )
    return said


def _describe_tests(facts: MethodFacts, cited: list[str]) -> str:
    units = {one.unit for one in facts.data}
    said = []
    if "cutoff" in units:
        cited += ["dm", "ewc", "mueller"]
        said.append(
            "Differences in scaled absolute error are tested two-sided (Diebold and Mariano, 1995) over cutoffs, "
            "averaged over series and seeds first, since series at one cutoff are not independent; the long-run "
            "variance is the equal-weighted cosine estimate with t critical values (Mueller, 2007; Lazarus et al., "
            "2018), its number of terms lowered for overlapping windows and for the estimated autocorrelation."
        )
    if "series" in units:
        where = "" if len(units) == 1 else f" on {join_words([d.name for d in facts.data if d.unit == 'series'])}"
        said.append(
            f"Differences in scaled absolute error{where} are tested by paired t-tests over series, which are taken "
            "as independent."
        )
    if facts.trained and len(facts.seeds) > 1:
        cited.append("satterthwaite")
        said.append(
            "Seeds are a random effect: the variance of each model's mean between seeds is added, with degrees of "
            "freedom by Satterthwaite (1946)."
        )
    elif facts.trained:
        said.append("With one seed, the tests speak of the trained models and not of training anew.")
    cited += ["holm", "fieller"]
    said.append(
        "P-values are adjusted by Holm (1979) within each table of tests, over all pairs of models where the best "
        "model is the reference. Intervals of the skill, 1 minus the ratio of mean errors, invert the same test "
        "(Fieller, 1954) at the adjusted level."
    )
    return " ".join(said)
