"""From a configuration of `tsllm decide` to its bench."""

from pathlib import Path

from tsllm.decisions import Inventory, build_problem
from tsllm.programs.decide_bench import SeriesBench
from tsllm.programs.decide_check import check_policies
from tsllm.programs.decide_config import Bench, DecideConfig, Say
from tsllm.programs.decide_stock import DemandBench, StockBench


def build_bench(config: DecideConfig, folder: Path, say: Say) -> Bench:
    """Builds the bench of a configuration; forecasts are kept in the folder.

    Raises:
        ValueError: If simulated demand is given for another problem than "inventory", or a policy cannot run.
    """
    options = dict(config.problem)
    problem = build_problem(options.pop("name"), options)
    if config.data is None and not isinstance(problem, Inventory):
        raise ValueError(f"demand is for the inventory problem; {problem.name or type(problem).__name__} needs data")
    check_policies(config, problem)
    if isinstance(problem, Inventory):
        return DemandBench(config, problem) if config.data is None else StockBench(config, problem, folder, say)
    return SeriesBench(config, problem, folder, say)
