"""Compares models on the same windows, with several seeds, paired tests and costs; a stopped run goes on.

python recipes/compare.py recipes/configs/compare/epf.yaml
"""

import sys
from collections.abc import Sequence

from tsllm.cli.compare import run_file


def main(argv: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--config" in arguments:
        arguments.remove("--config")
    overrides = [a.partition("=") for a in arguments[1:]]
    bad = [a for a, sign, _ in overrides if not sign]
    if not arguments or bad:
        raise SystemExit(f"usage: compare.py FILE.yaml [output_dir=FOLDER]; cannot read {bad}")
    run_file(arguments[0], {k: v for k, _, v in overrides}, f"python recipes/compare.py {' '.join(arguments)}")


if __name__ == "__main__":
    main()
