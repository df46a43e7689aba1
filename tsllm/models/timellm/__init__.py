"""Time-LLM: a frozen language model, reprogrammed."""

from tsllm.models.timellm.config import TimeLLMConfig
from tsllm.models.timellm.model import TimeLLM

__all__ = ["TimeLLM", "TimeLLMConfig"]
