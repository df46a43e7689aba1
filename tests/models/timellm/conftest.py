import pytest
import torch

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.models.timellm import TimeLLM, TimeLLMConfig

SIZES = {
    "context_length": 48,
    "prediction_length": 12,
    "num_channels": 2,
    "patch_length": 8,
    "patch_stride": 4,
    "d_model": 8,
    "num_heads": 2,
    "d_ff": 16,
    "num_prototypes": 20,
    "num_backbone_layers": 2,
    "prompt_domain": "electricity prices",
}


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "gpt2", "gpt2")


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "llama", "llama")


@pytest.fixture(params=["gpt2", "llama"])
def backbone(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def build():
    """Builds a small TimeLLM in eval mode; its trained parts are drawn from seed 0."""

    def make(backbone: str, **options) -> TimeLLM:
        torch.manual_seed(0)
        return TimeLLM(TimeLLMConfig(backbone=backbone, **(SIZES | options))).eval()

    return make


@pytest.fixture
def windows():
    """Three windows of two channels, of different levels and scales, so that their prompts differ in length."""
    steps = torch.arange(48.0)
    base = torch.sin(steps / 4)[None, :, None] + 0.3 * torch.randn(3, 48, 2)
    return base * torch.tensor([1.0, 250.0, 0.01])[:, None, None] + torch.tensor([0.0, -1234.0, 5.0])[:, None, None]
