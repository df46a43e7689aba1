"""Compares models on the same windows, with several seeds, paired tests and costs; a stopped run goes on.

python recipes/compare.py recipes/configs/compare/epf.yaml

The steps:

    windows    tsllm.evaluation.prepare.prepare_task             the same for all models
    cells      tsllm.evaluation.compare.run_compare              each model, seed and block of windows once, resumable
    scores     tsllm.evaluation.tables.score                     metrics of all windows
    tests      tsllm.evaluation.significance.compare_to          paired, adjusted for the number of pairs
    report     tsllm.evaluation.compare_report.build_compare_report
"""

import shlex
import sys
from collections.abc import Sequence

from tsllm.cli.compare import run_file
from tsllm.cli.console import parse_settings, run_main


def main(argv: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--config" in arguments:
        arguments.remove("--config")
    if not arguments:
        raise SystemExit("usage: compare.py FILE.yaml [output_dir=FOLDER seeds=[0,1] ...]")
    command = shlex.join(["python", "recipes/compare.py", *arguments])
    run_file(arguments[0], parse_settings(arguments[1:]), command)


if __name__ == "__main__":
    run_main(main)
