"""Runs a recipe sharded by FSDP 2 on processes of a CPU: `fsdp_on_cpu.py RECIPE ARGUMENTS...` under accelerate launch.

Where there is no GPU, accelerate reads an FSDP configuration and then trains with plain data parallelism without
saying so. Here its choice is overruled; sharding, gathering and saving are the real ones.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from accelerate.state import AcceleratorState, DistributedType, PartialState
from torch.distributed.fsdp import FSDPModule

from tests.recipes.programs import load_recipe

UNITS = []


def overrule() -> None:
    start = PartialState.__init__

    def init(self, *args, **kwargs):
        fresh = not PartialState._shared_state
        start(self, *args, **kwargs)
        if fresh:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU  # then asked: with FSDP?

    PartialState.__init__ = init


def count_units() -> None:
    from accelerate.utils import fsdp_utils

    prepare = fsdp_utils.fsdp2_prepare_model

    def counted(*args, **kwargs):
        model = prepare(*args, **kwargs)
        UNITS.append(sum(isinstance(module, FSDPModule) for module in model.modules()))
        return model

    sys.modules["accelerate.accelerator"].fsdp2_prepare_model = counted


if __name__ == "__main__":
    overrule()
    count_units()
    load_recipe(sys.argv[1]).main(sys.argv[2:])
    print(f"{AcceleratorState().distributed_type}, {UNITS[0]} units", flush=True)
