"""Optimises any reward of a forecast with DAPO, from a supervised start and next to its controls.

accelerate launch recipes/dapo_series.py --config recipes/configs/dapo_series/epf_smollm2.yaml

It is recipes/grpo_series.py, which names rollout, reward, advantage and loss, with the entry `dapo` of
`tsllm.rl.objectives.OBJECTIVES`: another clip above than below, no group without spread (`PolicyTrainer._refill`), and
a loss over all steps of all windows.
"""

from functools import partial

import grpo_series

from tsllm.cli.console import run_main

main = partial(grpo_series.main, objectives=("dapo",), recipe="dapo_series")

if __name__ == "__main__":
    run_main(main)
