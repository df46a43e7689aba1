"""What it costs to tokenise all training prompts of ETTh1 once, and how much padding batches of like length save.

python scripts/bench_prompts.py --data $TSLLM_DATA/ETTh1.csv --batch 4 16
Prints one JSON line a batch size: tokens of the windows' own tails in an epoch, as they are and as batches pad them.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from timellm_variants import backbone_folder

from tsllm.models import MODELS
from tsllm.models.timellm import TimeLLM, TimeLLMConfig
from tsllm.programs.series import prepare_series
from tsllm.training.aids.prompt_store import FILE, PromptStore, write_prompts
from tsllm.training.args import DataArguments
from tsllm.training.batches import GlobalBatches


def count_tokens(store: PromptStore, batches: GlobalBatches) -> tuple[int, int]:
    """Returns the tail tokens of an epoch, real and padded; a batch computes each distinct tail once."""
    real = padded = 0
    for batch in batches:
        lengths = [len(tail) for tail in store.gather(batch).tails]
        real += sum(lengths)
        padded += len(lengths) * max(lengths)
    return real, padded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="ETTh1.csv")
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 16], help="windows of seven series in a step")
    parser.add_argument("--backbone", default="smollm2-135m", help="as in scripts/bench_timellm.py")
    args = parser.parse_args()
    data = prepare_series(
        MODELS.get("timellm"),
        DataArguments(dataset="etth1", data_path=args.data, context_length=512, prediction_length=96),
    )
    loc, scale = data.scaler.loc_scale(data.train.segments[0].series)
    with tempfile.TemporaryDirectory() as folder, backbone_folder(args.backbone, 1) as backbone:
        model = TimeLLM(
            TimeLLMConfig(
                backbone=backbone, num_backbone_layers=1, context_length=512, prediction_length=96, num_channels=7,
                series_loc=loc.tolist(), series_scale=scale.tolist(),
            )
        )  # fmt: skip
        began = time.process_time()
        write_prompts(model, data.train, Path(folder) / FILE)
        seconds = time.process_time() - began
        store = PromptStore(Path(folder) / FILE, model.prompt_prefix())
        size = (Path(folder) / FILE).stat().st_size
        began = time.process_time()
        for batch in torch.arange(len(store)).split(4):
            store.gather(batch.tolist())
        reading = time.process_time() - began
        found = {"windows": len(store), "write_cpu_s": seconds, "bytes": size, "read_epoch_cpu_s": reading}
        for size in args.batch:
            for name, lengths in (("random", None), ("grouped", store.lengths)):
                real, padded = count_tokens(store, GlobalBatches(len(store), size, 0, lengths=lengths))
                found |= {"batch": size, f"{name}_real": real, f"{name}_padded": padded}
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
