"""Converts the packaged SmolLM2-135M (GGUF) into a folder of safetensors, or verifies a folder made before.

    python scripts/convert_smollm2.py                     # into $TSLLM_CACHE or ~/.cache/tsllm, if not there yet
    python scripts/convert_smollm2.py --folder models/smollm2-135m
    python scripts/convert_smollm2.py --verify            # compares every file with its recorded SHA-256

A run that was stopped leaves no half-made folder; starting it again does the work. `backbone: smollm2-135m` calls the
same conversion by itself on first use.
"""

import argparse
import sys
import time
from pathlib import Path

from tsllm.backbones.pretrained import SMOLLM2, cache_folder, find_smollm2, is_complete, verify


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=cache_folder() / SMOLLM2, help="default: %(default)s")
    parser.add_argument("--verify", action="store_true", help="check a finished folder instead of converting")
    arguments = parser.parse_args()
    if arguments.verify:
        if not is_complete(arguments.folder):
            print(f"{arguments.folder} holds no finished conversion", file=sys.stderr)
            return 1
        damaged = verify(arguments.folder)
        print(f"damaged: {', '.join(damaged)}" if damaged else f"{arguments.folder} is as it was converted")
        return bool(damaged)
    begin = time.perf_counter()
    folder = find_smollm2(arguments.folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.0f} MB, {time.perf_counter() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
