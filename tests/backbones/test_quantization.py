"""4-bit loading where it cannot be had: an error with the way out. The rest is in models/timellm/test_quantized.py."""

import pytest
import torch
from transformers.utils import is_bitsandbytes_available

from tsllm.backbones.quantization import build_quantization, require_cuda


@pytest.mark.skipif(is_bitsandbytes_available(), reason="bitsandbytes is installed")
def test_without_bitsandbytes_the_error_names_the_extra_and_the_way_around():
    with pytest.raises(ImportError, match=r"pip install 'tsllm\[quantization\]'; or load the weights whole"):
        build_quantization(torch.float32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_gpu_the_error_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"need a CUDA device, and none was found; .* load_in_4bit: false"):
        require_cuda()
