"""Texts that a recipe trains on."""

from dataclasses import dataclass, field

from tsllm.context.contract import Context, load_texts
from tsllm.data.frame import find_last_times
from tsllm.data.prepared import PreparedData
from tsllm.hub.told import READS_ITSELF
from tsllm.models.base import ForecastModel
from tsllm.training.args import ArgumentsError


@dataclass
class ContextArguments:
    """What is told of the series, for a model that reads texts.

    Attributes:
        context: A text, the path of a table `unique_id, text, published[, start, end]`, or that of a JSON file with a
            mapping series -> text; None = nothing.
        timeless: Whether texts without `published` may be read at every cutoff.
    """

    context: str | None = field(default=None, metadata={"help": "a text, or a table unique_id, text, published"})
    timeless: bool = False

    def __post_init__(self) -> None:
        if self.timeless and self.context is None:
            raise ArgumentsError("timeless has no effect without context; leave it out")


def refuse_told(told: ContextArguments, why: str) -> None:
    """Refuses texts in a recipe that has no use for them.

    Raises:
        ArgumentsError: If there are some.
    """
    if told.context is not None:
        raise ArgumentsError(f"context is given, but {why}; leave it out, or train with recipes/sft_series.py")


NO_PROMPTS = "language models are trained here on prompts without texts, or on texts that the recipe writes"


def tell_parts(
    model: ForecastModel, data: PreparedData, told: ContextArguments, day_first: bool | None = None
) -> Context | None:
    """Gives the windows of all parts what may be read at their cutoffs.

    Args:
        model: Reads them.
        data: The parts.
        told: The texts.
        day_first: As in `load_texts`.

    Returns:
        The texts; None if there are none.

    Raises:
        ArgumentsError: If the model reads no texts.
        FrameError: If the texts do not fit the data, or do not say when they were published.
        ValueError: If a text is longer than the language model reads.
    """
    if told.context is None:
        return None
    if not model.config.text_layers:
        raise ArgumentsError(
            f"context is given, but {type(model).__name__} reads no texts; leave it out, or give it "
            f"model_config {READS_ITSELF}"
        )
    from tsllm.forecasting.texts import ToldWindows, open_text_encoder

    texts = load_texts(told.context, data.loaded.names, day_first)
    last = find_last_times(data.loaded.df, data.task.h, data.loaded.freq)
    context = Context.read(texts, data.loaded.df, last=last, timeless=told.timeless)
    encoder, reader = open_text_encoder(model.config), model.text_reader
    assert reader is not None
    for part in (data.train, data.validation, data.test):
        if part is not None:
            part.further = ToldWindows(part, context, encoder, reader.lens, learns=part is data.train)
    return context
