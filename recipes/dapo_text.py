"""Optimises a reward of text forecasts with DAPO (dynamic sampling too) and LoRA (TRL), next to its starting point.

accelerate launch recipes/dapo_text.py --config recipes/configs/dapo_text/epf_smollm2.yaml

It is recipes/grpo_text.py, which names rollout, reward, advantage and loss, with `algorithm: dapo`.
"""

from functools import partial

import grpo_text

from tsllm.cli.console import run_main

main = partial(grpo_text.main, algorithm="dapo")

if __name__ == "__main__":
    run_main(main)
