"""`tsllm benchmark`: protocols of others, by one command each."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tsllm.cli.console import Command, parse_counts, parse_list, parse_settings, print_table, quiet_libraries

app = typer.Typer(
    help="Run published protocols: series never seen, long horizons, forecasts that need a text.", no_args_is_help=True
)


RankedModels = Annotated[
    str, typer.Option(help="AutoETS, dlinear, saved folders, chronos:ID ..., separated by commas.")
]
TrainedSeeds = Annotated[str, typer.Option(help="Seeds of models that are trained here: 0 1 2.")]
CellsFolder = Annotated[Path, typer.Option(help="Folder of cells and tables; a stopped run goes on.")]


class SpacedLists(Command):
    """A command whose list options also take their values apart: `--horizons 96 192` is `--horizons 96,192`."""

    lists = ("--data", "--horizons", "--models", "--seeds", "--sets", "--tasks", "--terms", "--transfer")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Joins what follows a list option up to the next option."""
        joined: list[str] = []
        inside = 0
        for arg in args:
            if inside and not arg.startswith("--"):
                joined[-1] += ("," if inside > 1 else "") + arg
                inside += 1
                continue
            inside = int(arg in self.lists)
            joined.append(arg)
            if inside:
                joined.append("")
        return super().parse_args(ctx, joined)


@app.command("long-term", cls=SpacedLists)
def long_term(
    file: Annotated[Path | None, typer.Argument(help="YAML of the whole run; options replace its entries.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Named data sets: etth1 etth2 ettm1 ettm2 weather electricity traffic ili ...")
    ] = None,
    horizons: Annotated[str | None, typer.Option(help="Steps ahead; by default each set's customary ones.")] = None,
    models: Annotated[
        str | None, typer.Option(help="dlinear patchtst timellm SeasonalNaive FOLDER few-shot:FOLDER ...")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds: 0 1 2.")] = None,
    transfer: Annotated[str | None, typer.Option(help="Trained on one, tested on another: etth1:etth2 ...")] = None,
    few_shot: Annotated[float | None, typer.Option(help="First share of the training windows: 0.1.")] = None,
    context_length: Annotated[int | None, typer.Option(help="Look-back; by default each set's customary one.")] = None,
    layout: Annotated[str | None, typer.Option(help="multivariate or univariate.")] = None,
    data_path: Annotated[
        Path | None, typer.Option(help="Folder of the CSV files, or the file of the one data set.")
    ] = None,
    test_stride: Annotated[int | None, typer.Option(help="Steps between test windows; published results: 1.")] = None,
    reference: Annotated[str | None, typer.Option(help="Model that tests refer to; the first by default.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Training seconds of each model and seed.")] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of cells, tables and report; by default runs/long_term, runs/few_shot or runs/transfer."
        ),
    ] = None,
) -> None:
    """The long-term protocol and its table: full, few-shot, and trained on one set, tested on another; resumable."""
    from tsllm.cli.compare import write_command
    from tsllm.evaluation.long_term_report import report_long_term
    from tsllm.evaluation.protocol import LongTermConfig

    shown: dict[str, Any] = {"data": data, "horizons": horizons, "models": models, "seeds": seeds}
    shown |= {"transfer": transfer, "few_shot": few_shot, "context_length": context_length, "layout": layout}
    shown |= {"data_path": data_path, "test_stride": test_stride, "reference": reference}
    shown |= {"max_seconds": max_seconds, "output_dir": output_dir}
    given = {k: v for k, v in shown.items() if v is not None}
    for name in ("data", "models", "transfer"):
        given |= {name: parse_list(given[name])} if name in given else {}
    for name in ("horizons", "seeds"):
        given |= {name: parse_counts(f"--{name}", given[name])} if name in given else {}
    given |= {name: str(given[name]) for name in ("output_dir", "data_path") if name in given}
    quiet_libraries()
    if file is None and not given.get("models"):
        raise ValueError("name what to run: --models dlinear patchtst, or a YAML file")
    config = LongTermConfig.load(file, given) if file is not None else LongTermConfig(**given)
    words = [str(file)] if file is not None else []
    result = report_long_term(config, write_command("tsllm benchmark long-term", *words, **shown), typer.echo)
    _print_wide(result.table, config.title)
    for note in result.notes:
        typer.echo(note)
    for failure in result.failures:
        typer.secho(f"failed: {failure}", fg=typer.colors.RED, err=True)
    typer.echo(f"report in {result.report}; table.md, table.tex and CSV files beside it")
    if result.failures:
        raise typer.Exit(1)


def _print_wide(table: Any, title: str) -> None:
    typer.echo(title)
    typer.echo(table.to_markdown())


@app.command("zero-shot", cls=SpacedLists)
def zero_shot(
    models: Annotated[
        str, typer.Option(help="Saved folders, AutoTheta, AutoETS, FLAIR, chronos:ID, separated by commas.")
    ] = "AutoTheta,AutoETS",
    sets: Annotated[str | None, typer.Option(help="Some of the eight sets: m3-monthly,m3-yearly.")] = None,
    output_dir: CellsFolder = Path("runs/zero_shot"),
) -> None:
    """Score models on eight sets of Chronos' zero-shot benchmark, beside published figures."""
    from tsllm.evaluation.yardsticks import ZERO_SHOT_SETS
    from tsllm.evaluation.zero_shot_report import run_benchmark_zero_shot

    quiet_libraries()
    report = run_benchmark_zero_shot(parse_list(models), parse_list(sets) or ZERO_SHOT_SETS, output_dir, typer.echo)
    print_table(report.summary, "relative to the seasonal naive", {"rel_mase": ".3f", "rel_wql": ".3f"})
    for note in report.notes:
        typer.echo(note)
    typer.echo(f"tables in {report.folder}")
    if (report.summary["failed"] > 0).any():
        raise typer.Exit(1)


@app.command("gift-eval", cls=SpacedLists)
def gift_eval(
    folder: Annotated[Path, typer.Argument(help="A data set of GIFT-Eval as downloaded, or a folder of several.")],
    models: RankedModels = "AutoETS",
    terms: Annotated[str, typer.Option(help="short, medium, long.")] = "short",
    seeds: TrainedSeeds = "0",
    output_dir: CellsFolder = Path("runs/gift_eval"),
) -> None:
    """GIFT-Eval's rules on its data: scores relative to the seasonal naive, beside published ones."""
    from tsllm.cli.compare import write_command
    from tsllm.evaluation.relative import gift_eval

    shown = {"models": models, "terms": terms, "seeds": seeds, "output_dir": output_dir}
    quiet_libraries()
    report = gift_eval(
        folder,
        parse_list(models),
        terms=parse_list(terms),
        seeds=parse_counts("--seeds", seeds),
        output_dir=output_dir,
        command=write_command("tsllm benchmark gift-eval", str(folder), **shown),
        tell=typer.echo,
    )
    _print_relative(report)


@app.command("fev", cls=SpacedLists)
def fev(
    file: Annotated[Path, typer.Argument(help="Tasks of fev (YAML).")],
    models: RankedModels = "AutoETS",
    tasks: Annotated[str | None, typer.Option(help="Some of its tasks by name; by default all.")] = None,
    seeds: TrainedSeeds = "0",
    output_dir: CellsFolder = Path("runs/fev"),
) -> None:
    """The tasks of a fev file: scores relative to the seasonal naive, beside published ones."""
    from tsllm.cli.compare import write_command
    from tsllm.evaluation.relative import fev

    shown = {"models": models, "tasks": tasks, "seeds": seeds, "output_dir": output_dir}
    quiet_libraries()
    report = fev(
        file,
        parse_list(models),
        tasks=parse_list(tasks),
        seeds=parse_counts("--seeds", seeds),
        output_dir=output_dir,
        command=write_command("tsllm benchmark fev", str(file), **shown),
        tell=typer.echo,
    )
    _print_relative(report)


def _print_relative(report: Any) -> None:
    """Prints a summary relative to the seasonal naive; status 1 if a model failed somewhere."""
    formats = dict.fromkeys(("rel_test_error", "rel_MASE", "rel_WQL"), ".3f") | {"skill": ".1%"}
    print_table(report.summary, "relative to the seasonal naive", formats)
    for note in report.notes:
        typer.echo(note)
    typer.echo(f"report in {report.report}; summary.csv, summary.md and fev_summary.csv beside it")
    if (report.summary["failed"] > 0).any():
        raise typer.Exit(1)


@app.command("short-term", cls=SpacedLists)
def short_term(
    folder: Annotated[Path, typer.Argument(help="Monthly-train.csv, Monthly-test.csv ..., as M4 was published.")],
    models: Annotated[
        str, typer.Option(help="AutoTheta, AutoETS, dlinear, saved folders ..., separated by commas.")
    ] = "SeasonalNaive,AutoTheta",
    season: Annotated[int | None, typer.Option(help="Of every group; by default M4's by the group's name.")] = None,
    max_series: Annotated[int | None, typer.Option(help="Only the first so many series of each group.")] = None,
    seeds: TrainedSeeds = "0",
    smape_loss: Annotated[
        bool, typer.Option("--smape-loss", help="Models of tsllm train on sMAPE in original units.")
    ] = False,
    output_dir: CellsFolder = Path("runs/short_term"),
) -> None:
    """Competitions like M4: sMAPE, MASE and OWA against Naive2, by group and over all series."""
    from tsllm.cli.compare import write_command
    from tsllm.evaluation.short_term import short_term

    shown: dict[str, Any] = {"models": models, "season": season, "max_series": max_series, "seeds": seeds}
    command = write_command("tsllm benchmark short-term", str(folder), **shown, output_dir=output_dir)
    command += " --smape-loss" if smape_loss else ""
    quiet_libraries()
    report = short_term(
        folder,
        parse_list(models),
        season=season,
        max_series=max_series,
        smape_loss=smape_loss,
        seeds=parse_counts("--seeds", seeds),
        output_dir=output_dir,
        command=command,
        tell=typer.echo,
    )
    print_table(report.table, "sMAPE 0 to 200; OWA against Naive2", {"smape": ".3f", "mase": ".3f", "owa": ".3f"})
    typer.echo(f"report in {report.report}; table.csv and table.md beside it")
    for failure in report.failures:
        typer.secho(f"failed: {failure}", fg=typer.colors.RED, err=True)
    if report.failures:
        raise typer.Exit(1)


@app.command("cik")
def cik(
    file: Annotated[Path, typer.Argument(help="Context is Key: one instance a line (JSON).")],
    output_dir: Annotated[Path, typer.Option(help="Folder for forecasts, scores and report.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="What forecasts: SeasonalNaive, AutoETS, text, chronos:ID, a saved folder ...; default: a pool of "
            "simple forecasters."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Option of the model: language_model=FOLDER, style=direct.")
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            help="What reads the text, the one that counts first: none, data, rules, learned, rules+learned, "
            "learned+rules, model (it does so itself), swapped, spectrum. Default: model,none,swapped for a model "
            "that reads texts, else rules,none,data,swapped."
        ),
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="Trained reader, for `learned`: a head, or a language model that says effects.")
    ] = None,
    control: Annotated[Path | None, typer.Option(help="Folder of one on random weights, for `spectrum`.")] = None,
    samples: Annotated[int, typer.Option(help="Sample paths an instance.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of training and draws.")] = 0,
) -> None:
    """Context is Key: forecasts that need their text."""
    from tsllm.forecasting.model_spec import ModelSpec
    from tsllm.programs.benchmark_cik import run_cik

    quiet_libraries()
    options = parse_settings(settings)
    if model is None and options:
        raise ValueError("--set has no effect without --model; name one, such as --model text")
    usual = {"language_model": "smollm2-135m"} if model == "text" else {}
    spec = None if model is None else ModelSpec(model, options=usual | options)
    run_cik(
        file, output_dir, model=spec, arms=parse_list(arms) or None, reader=reader, control=control, samples=samples,
        seed=seed, tell=typer.echo,
    )  # fmt: skip
    typer.echo((output_dir / "report.md").read_text(encoding="utf-8"))
