"""A causal language model as a forecaster: numbers in, sampled numbers out, median and quantiles of the samples."""

import copy
import inspect
import json
import logging
import shutil
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from tsllm.backbones.control import refuse_control
from tsllm.context.contract import Context, write_notes
from tsllm.data.facts import TrainingFacts, from_names
from tsllm.data.frame import future_frame, infer_freq, list_covariates, validate_frame, validate_future
from tsllm.data.frequency import Freq
from tsllm.data.names import ColumnNames
from tsllm.files import replace_folder, telling_damage, write_json
from tsllm.forecasting.base import Forecaster, compute_quantile_levels, count_torch_parameters, name_interval_columns
from tsllm.forecasting.paths import frame_paths
from tsllm.hub.artefacts import OWNED
from tsllm.hub.licence import check_licence
from tsllm.hub.package import check_package
from tsllm.text.codec import NumberCodec, SeriesScale, choose_separator
from tsllm.text.direct import DirectCodec, DirectPrompt
from tsllm.text.generate import SamplingOptions, sample_completions
from tsllm.text.loading import SETTINGS, describe_base, fetch_folder, load_language_model
from tsllm.text.prompt import TextPrompt
from tsllm.text.reasoning import build_prompt, find_chat_frame
from tsllm.text.served import NO_GRAMMAR, ServedModel
from tsllm.text.tokens import encode_requests
from tsllm.types import ID, TARGET, TIME

logger = logging.getLogger(__name__)

_MOST_COMPLETIONS = 512  # written side by side, so that memory does not grow with the number of samples


@dataclass
class ParseReport:
    """What became of the completions of one `predict`.

    Attributes:
        num_samples: Completions drawn.
        failures: Parse failure -> count.
        empty_series: Series without a single readable completion; their forecast is NaN.
    """

    num_samples: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    empty_series: list[Any] = field(default_factory=list)


@dataclass
class _Window:
    """One series to forecast: its prompt, and the scale and the times by which the answer is read."""

    prompt: str
    scale: SeriesScale
    times: tuple[str, ...]
    num_texts: int = 0


class TextForecaster(Forecaster):
    """Forecasts by sampling completions of a prompt that holds the history as text.

    Args:
        model: A causal language model (transformers or PEFT), in eval mode, or one that vLLM runs
            (`tsllm.text.served.load_served_model`).
        tokenizer: Its tokenizer.
        h: Steps ahead.
        context_length: Steps of history in the prompt.
        alias: Name of the forecast column.
        freq: Frequency of the data; None infers it.
        digits: Digits of the written numbers.
        domain: One sentence about the data for the prompt.
        season: Steps of a season, told to the model; 0 = left out.
        thought_words: Words that the model may think before it answers (`tsllm.text.reasoning`); 0 = none.
        style: "numbers" writes scaled numbers, for models that were trained so; "direct" is the published direct
            prompt with times and values in the units of the data, for large models as they are.
        chat: Whether the request stands in the words of the model's chat template; thoughts and `direct` always do.
        timeless: Whether texts without `published` may be read at every cutoff of a back-test.
        covariates: Columns known for the future that enter the prompt.
        num_samples: Completions a series; the forecast is their median.
        options: Temperature, nucleus, constraint.
        batch_size: Series whose prompts are read together.
        seed: Seed of the draws; two calls of `predict` on the same data give the same forecast.
        facts: What it was trained on; None = nothing.

    Attributes:
        report: The `ParseReport` of the last `predict`.
        source: The folder that it was loaded from; None = it was not.

    Example:
        `language_model` is a folder, a Hub id or `smollm2-135m`.

        >>> import pandas as pd, tsllm
        >>> from tsllm.text.loading import load_language_model
        >>> df = pd.DataFrame({"unique_id": "a", "ds": range(24), "y": [float(t % 4) for t in range(24)]})
        >>> model, tokenizer = load_language_model(language_model)
        >>> words = tsllm.TextForecaster(model, tokenizer, h=2, context_length=12, num_samples=2)
        >>> list(words.fit(df).predict().columns)
        ['unique_id', 'ds', 'TextLLM']
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        h: int,
        context_length: int = 96,
        alias: str = "TextLLM",
        freq: Freq | None = None,
        digits: int = 3,
        domain: str = "",
        season: int = 0,
        thought_words: int = 0,
        style: str = "numbers",
        chat: bool = False,
        timeless: bool = False,
        covariates: Sequence[str] = (),
        num_samples: int = 20,
        options: SamplingOptions | None = None,
        batch_size: int = 4,
        seed: int = 0,
        facts: TrainingFacts | None = None,
    ) -> None:
        for name, value in (("h", h), ("context_length", context_length), ("num_samples", num_samples)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.model, self.tokenizer = model, tokenizer
        self.h, self._context_length, self.alias, self.freq = h, context_length, alias, freq
        self.covariates, self.num_samples, self.batch_size, self.seed = (
            list_covariates(covariates),
            num_samples,
            batch_size,
            seed,
        )
        self._refuse_control(domain, "domain")
        for column in self.covariates:
            self._refuse_control(column, f"the name of the covariate {column!r}")
        self.facts = facts or TrainingFacts()
        self.options = options or SamplingOptions()
        if isinstance(model, ServedModel) and self.options.constrained:
            raise ValueError(NO_GRAMMAR)
        plain = NumberCodec(digits=digits, separator=choose_separator(tokenizer))
        self.style, self.chat, self.timeless = style, chat, timeless
        self.prompt = _choose_prompt(style, chat, plain, tokenizer, domain, season, thought_words, h)
        self.codec, self.thought_words = self.prompt.codec, thought_words
        if style == "direct" and self.options.constrained:
            raise ValueError("the direct prompt follows no grammar of numbers; set constrained: false")
        if thought_words and self.options.constrained:
            raise ValueError("a thought follows no grammar of numbers; set constrained: false, or thought_words: 0")
        self.report = ParseReport()
        self.source: Path | None = None
        self._history: pd.DataFrame | None = None
        self._fitted_h: int | None = None
        self.context: Any = None
        self._context: Any = None

    @property
    def context_length(self) -> int:
        """Steps of history in the prompt."""
        return self._context_length

    @property
    def trained_on(self) -> TrainingFacts:
        """What the adapter was trained on."""
        return self.facts

    @property
    def reads_texts(self) -> bool:
        """Texts stand in its prompts."""
        return True

    def tell(self, context: Any, timeless: bool = False) -> Self:
        """Takes texts for every later `fit` that is given none, and for forecasts before it."""
        self.context = self._context = context
        self.timeless = timeless
        return self

    def count_parameters(self) -> tuple[int | None, int | None]:
        """Returns trained and all parameters of the language model; None for all where vLLM holds it."""
        if isinstance(self.model, ServedModel):
            return 0, None
        return count_torch_parameters(self.model)

    def save(self, folder: str | Path) -> None:
        """Writes `text_forecaster.json`: all settings but the weights, which stand beside it as a PEFT folder.

        The base model's name, commit and fingerprint are among them, so that another one is an error when loading.
        """
        settings = {
            "h": self.h,
            "context_length": self.context_length,
            "alias": self.alias,
            "freq": self.freq,
            "digits": self.codec.digits,
            "domain": self.prompt.domain,
            "season": self.prompt.season,
            "thought_words": self.thought_words,
            "style": self.style,
            "chat": self.chat,
            "timeless": self.timeless,
            "covariates": self.covariates,
            "num_samples": self.num_samples,
            "options": asdict(self.options),
            "data": self.facts.to_dict(),
            "names": self.names.to_dict(),
            "licence": self.licence,
            "base": asdict(describe_base(self.model, self.tokenizer)),
        }
        write_json(Path(folder, SETTINGS), settings)

    def save_pretrained(self, folder: str | Path, *, licence: str | None = None) -> None:
        """Writes an adapter that was loaded from an artefact, with its tokenizer, settings, metrics and card.

        Args:
            folder: Where.
            licence: Of the adapter, as the Hub abbreviates it; None = what was said before, else what language model
                and data allow to say.

        Raises:
            NotImplementedError: If it was not loaded with `from_pretrained`, or is a whole language model.
        """
        if self.source is None or not (self.source / "adapter_config.json").is_file():
            raise NotImplementedError(
                f"{self.alias} holds a language model that nothing was trained in, or a merged one; what can be saved "
                "is an adapter of recipes/sft_text.py, loaded with TextForecaster.from_pretrained(folder)"
            )
        from tsllm.hub.text_card import write_text_card

        self.licence = check_licence(licence) or self.licence
        with replace_folder(folder, OWNED) as made:
            for name in check_package(self.source):
                shutil.copy(self.source / name, made / name)
            self.save(made)
            write_text_card(made, recipe="sft_text", licence=self.licence or None)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        token: str | bool | None = None,
        **changes: Any,
    ) -> Self:
        """Loads a fine-tuned text forecaster: a PEFT adapter or a whole model with `text_forecaster.json`.

        Args:
            folder: A folder or a Hub id.
            device: Where to put the model.
            revision: Branch, tag or commit of the Hub repository.
            token: Access token of the Hub; None = the stored one.
            **changes: Settings to change, e.g. `num_samples=100`.

        Raises:
            OSError: If the settings, the adapter or its base model cannot be loaded.
            ValueError: If the base model's weights are not those that the adapter was trained on.
        """
        source = fetch_folder(folder, revision, token)
        if not (source / SETTINGS).is_file():
            raise OSError(f"{folder} holds no {SETTINGS}; it was not written by recipes/sft_text.py")
        model, tokenizer = load_language_model(source, device=device)
        with telling_damage(source / SETTINGS, "write it again with recipes/sft_text.py"):
            settings = json.loads((source / SETTINGS).read_text(encoding="utf-8"))
            settings.pop("base", None)
            licence = settings.pop("licence", "")
            data, names = settings.pop("data", {}), ColumnNames.from_dict(settings.pop("names", {}))
            settings["facts"] = TrainingFacts.from_dict(data) if "reads" in data else from_names(data)
            settings["options"] = SamplingOptions(**settings["options"])
            inspect.signature(cls).bind(model, tokenizer, **settings)
        made = cls(model, tokenizer, **(settings | changes))
        made.names, made.source, made.licence = names, source, licence
        return made

    def fit(self, df: pd.DataFrame, h: int | None = None, context: Any = None) -> Self:
        """Remembers the history and the texts; the weights stay (see `recipes/sft_text.py` for training).

        Args:
            df: As in `Forecaster.fit`.
            h: As in `Forecaster.fit`.
            context: What is known, as `tsllm.context.contract.Context.read` takes it; None = what `tell` was given.

        Raises:
            ValueError: If `h` is longer than the forecaster's own, or the frame breaks the contract.
            FrameError: If the texts do not fit the data, or one of `tell` does not say when it was published and is
                not timeless.
        """
        self._check_horizon(h)
        history = self._validate(df)
        given = self.context if context is None else context
        # What `tell` was given serves many cutoffs.
        standing = given is not None and context is None
        told = Context.read(given, history, timeless=self.timeless or not standing, check_length=self._refuse_control)
        told.refuse_undated(history[TIME].max())
        self._history, self._fitted_h, self._context = history, h, given
        return self

    def predict(
        self,
        df: pd.DataFrame | None = None,
        h: int | None = None,
        level: Sequence[float] | None = None,
        X_df: pd.DataFrame | None = None,
        context: Any = None,
    ) -> pd.DataFrame:
        """Forecasts the steps after each series; see the protocol.

        Texts (`context`; None = those of `fit`) stand in the prompts, those with `published` if the series ends at or
        after it. A series without a readable completion gets NaN, is named in `report` and logged as a warning.
        """
        history = self._validate(df) if df is not None else self._history
        if history is None:
            raise ValueError("call fit(df) first, or give predict(df=...)")
        self._check_horizon(h)
        freq = self.freq if self.freq is not None else infer_freq(history)
        future = future_frame(history, self.h, freq)
        windows = self._build_windows(history, future, X_df, context)
        samples = self._sample(list(windows.values()), list(windows))
        out = future.copy()
        names = [self.alias, *name_interval_columns(self.alias, level)]
        quantiles = _compute_quantiles(samples, [0.5, *compute_quantile_levels(level)])
        for name, values in zip(names, quantiles, strict=True):
            out[name] = values.reshape(-1)
        steps = out.groupby(ID, sort=False).cumcount()
        return out[steps < (h or self._fitted_h or self.h)].reset_index(drop=True)

    def predict_rolling(
        self, df: pd.DataFrame, h: int, n_windows: int, step_size: int, level: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """Forecasts from the last cutoffs; each reads the texts of `fit` that were published by then.

        Raises:
            FrameError: If a series is too short, or a text does not say when it was published and is not timeless.
        """
        Context.read(self._context, self._validate(df), timeless=self.timeless).refuse_undated(df[TIME].max())
        told = self if self._context is None else copy.copy(self).tell(self._context, self.timeless)
        return super(TextForecaster, told).predict_rolling(df, h, n_windows, step_size, level)

    def sample(self, df: pd.DataFrame, X_df: pd.DataFrame | None = None, context: Any = None) -> dict[Any, np.ndarray]:
        """Returns the sampled paths of each series, [num_samples, h], NaN where a completion was unreadable."""
        history = self._validate(df)
        future = future_frame(history, self.h, self.freq if self.freq is not None else infer_freq(history))
        windows = self._build_windows(history, future, X_df, context)
        return dict(zip(windows, self._sample(list(windows.values()), list(windows)), strict=True))

    def sample_own_paths(
        self,
        df: pd.DataFrame,
        n_samples: int,
        seed: int,
        h: int | None = None,
        X_df: pd.DataFrame | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Draws joint paths of each series, each one completion: the model writes every step after those before it.

        Raises:
            ValueError: If completions of a series are unreadable, or options of earlier windows are given.
        """
        if options:
            raise ValueError(
                f"{self.alias} draws its completions, which take no earlier windows; leave {', '.join(options)} out, "
                "or take method='bootstrap'"
            )
        self._check_horizon(h)
        usual = self.num_samples, self.seed
        self.num_samples, self.seed = n_samples, seed
        try:
            paths = self.sample(df, X_df)
        finally:
            self.num_samples, self.seed = usual
        for name, drawn in paths.items():
            lost = int(np.isnan(drawn).any(axis=1).sum())
            if lost:
                raise ValueError(
                    f"{lost} of {n_samples} completions of series {name!r} are unreadable; sample under the grammar "
                    "(SamplingOptions(constrained=True)), or take method='bootstrap'"
                )
        steps = h or self._fitted_h or self.h
        history = self._validate(df)
        times = future_frame(history, steps, self.freq if self.freq is not None else infer_freq(history))
        ahead = {name: part[TIME].to_numpy() for name, part in times.groupby(ID, sort=False)}
        parts = [frame_paths(name, ahead[name], drawn[:, :steps], self.alias) for name, drawn in paths.items()]
        return pd.concat(parts, ignore_index=True)

    def _validate(self, df: pd.DataFrame) -> pd.DataFrame:
        return validate_frame(df, freq=self.freq, covariates=self.covariates)

    def _check_horizon(self, h: int | None) -> None:
        if h is not None and not 1 <= h <= self.h:
            raise ValueError(f"h ({h}) must lie in 1..{self.h}, the horizon that {self.alias} was built for")

    def _build_windows(
        self, history: pd.DataFrame, future: pd.DataFrame, X_df: pd.DataFrame | None, context: Any = None
    ) -> dict[Any, _Window]:
        given = self._context if context is None else context
        standing = context is None and self.context is not None  # texts for many cutoffs, which may lie ahead
        last = None if standing else future.groupby(ID, sort=False)[TIME].last().to_dict()
        told = Context.read(given, history, last=last, timeless=True, check_length=self._refuse_control)
        if not standing:
            told.warn_of_unread(history)
        ahead = self._join_covariates(future, X_df)
        groups = dict(iter(ahead.groupby(ID, sort=False)))
        windows: dict[Any, _Window] = {}
        notes = told.notes_at(history.groupby(ID, sort=False)[TIME].last().to_dict())
        for series, group in history.groupby(ID, sort=False):
            tail = group.tail(self.context_length)
            values = tail[TARGET].to_numpy()
            try:
                scale = self.codec.fit(values)
            except ValueError as error:
                raise ValueError(f"series {series!r}: {error}") from error
            own = groups[series]
            known = {c: np.concatenate([tail[c].to_numpy(), own[c].to_numpy()]) for c in self.covariates}
            times = [str(t) for t in (*tail[TIME], *own[TIME])]
            about = _date(notes.get(series, ()), group[TIME], own[TIME])
            known_text = write_notes(about)
            text = self.prompt.build(values, self.h, scale, str(own[TIME].iloc[0]), known, known_text, times)
            windows[series] = _Window(text, scale, tuple(times[-self.h :]), len(about))
        return windows

    def _refuse_control(self, text: str, name: str) -> None:
        refuse_control(self.tokenizer, text, name)

    def _check_prompt(self, series: Any, prompt: str, count: int) -> None:
        """Refuses a prompt that its texts make longer than what the model reads; no text is left out silently."""
        limit = getattr(getattr(self.model, "config", None), "max_position_embeddings", None)
        tokens = 0 if limit is None else len(encode_requests(self.tokenizer, [prompt])[0])
        if limit is not None and tokens > limit:
            raise ValueError(
                f"series {series!r}: with its {count} text{'s' if count > 1 else ''} the prompt has {tokens} tokens, "
                f"but the model reads {limit}; give the texts `start` and `end`, so that each stands only in prompts "
                "about its time, or fewer and shorter ones"
            )

    def _join_covariates(self, future: pd.DataFrame, X_df: pd.DataFrame | None) -> pd.DataFrame:
        if not self.covariates:
            return future
        if X_df is None:
            raise ValueError(f"{self.alias} reads the future of {self.covariates}; give X_df with these columns")
        return validate_future(X_df, future, self.covariates)

    def _sample(self, windows: list[_Window], names: list[Any]) -> np.ndarray:
        """Returns paths [N, G, h] in the order of `windows`; prompts of like length share a batch."""
        self.report = ParseReport()
        generator = torch.Generator(self.model.device).manual_seed(self.seed)
        paths = np.full((len(windows), self.num_samples, self.h), np.nan)
        for name, window in zip(names, windows, strict=True):
            if window.num_texts:
                self._check_prompt(name, window.prompt, window.num_texts)
        order = sorted(range(len(windows)), key=lambda i: len(windows[i].prompt))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            prompts = [windows[i].prompt for i in batch]
            at_once = max(_MOST_COMPLETIONS // len(batch), 1)
            for first in range(0, self.num_samples, at_once):
                count = min(at_once, self.num_samples - first)
                texts = sample_completions(
                    self.model, self.tokenizer, prompts, self.h, self.codec, count, self.options, generator
                )
                for i, group in zip(batch, texts, strict=True):
                    for j, text in enumerate(group, start=first):
                        paths[i, j] = self._read(text, windows[i])
        self.report.empty_series = [n for n, p in zip(names, paths, strict=True) if np.isnan(p).all()]
        if self.report.failures:
            logger.warning(
                "%s: %d of %d completions were unreadable (%s); series without any: %s",
                self.alias,
                self.report.failures.total(),
                self.report.num_samples,
                dict(self.report.failures),
                self.report.empty_series,
            )
        return paths

    def _read(self, text: str, window: _Window) -> np.ndarray | float:
        extra = not self.options.constrained
        parsed = self.codec.decode(text, self.h, window.scale, allow_extra=extra, times=window.times)
        self.report.num_samples += 1
        if parsed.failure is not None:
            self.report.failures[str(parsed.failure)] += 1
        return np.nan if parsed.values is None else parsed.values


def _date(notes: Sequence[Any], past: pd.Series, ahead: pd.Series) -> list[Any]:
    """Returns the notes about a horizon, with dates where they count from their publication, without what is over."""
    about = [note for note in notes if note.is_about(ahead.iloc[0], ahead.iloc[-1])]
    if not any(note.published is not None for note in about):
        return about
    from tsllm.context.dated import write_dates  # a forecast without dated texts reads no times

    times = (pd.DatetimeIndex(ahead), pd.DatetimeIndex(past))
    told = [note if note.published is None else write_dates(note, *times)[0] for note in about]
    return [note for note in told if note.text]


def _choose_prompt(
    style: str, chat: bool, codec: NumberCodec, tokenizer: Any, domain: str, season: int, thought_words: int, h: int
) -> TextPrompt:
    """Returns the prompt of a style.

    Raises:
        ValueError: If the style is unknown, or options do not go together.
    """
    if style not in ("numbers", "direct"):
        raise ValueError(f"style is {style!r}; choose numbers or direct")
    if style == "direct":
        if thought_words or chat:
            raise ValueError("the direct prompt has a form of its own; leave thought_words and chat out")
        before, after = find_chat_frame(tokenizer)
        return DirectPrompt(DirectCodec(h=h), domain, season, before, after)
    if not chat:
        return build_prompt(codec, tokenizer, domain, season, thought_words)
    before, after = find_chat_frame(tokenizer)
    if thought_words or not (before or after):
        raise ValueError(
            "chat is for models with a chat template that are asked for an answer alone; a thought brings it by itself"
        )
    return TextPrompt(codec, domain, season, before, after)


def _compute_quantiles(samples: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Returns [len(levels), N, h] over the readable ones of samples [N, G, h]; NaN where none was."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice")
        return np.nanquantile(samples, levels, axis=1)
