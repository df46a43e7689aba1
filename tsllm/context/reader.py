"""A learned reader: a small head on the frozen hidden states of each sentence gives each mention its role.

Sentences are read one by one, with numbers and moments put alike (`tsllm.context.plain`). Nothing is generated freely:
numbers and moments are copied from the text, and the head may only choose among the roles that the grammar allows for
a mention of that kind, so that whatever it says can be carried out.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from tsllm.backbones.trust import check_json
from tsllm.backbones.weights import read_header
from tsllm.context.features import KINDS, Features, build_features
from tsllm.context.plain import simplify
from tsllm.context.reading import ALLOWED, NONE, ROLES, STATEMENTS, VALUES, Reading
from tsllm.context.states import TextEncoder
from tsllm.files import replace_folder, write_json

_TIMES = ("start", "day")  # each of which a time of its own begins with
_TOLD = (*VALUES, "delay")
LEAST = 0.3  # probability from which what happens at a time that is told is taken; chosen on wordings held out
WEIGHTS, CONFIG = "model.safetensors", "reader.json"
# No training text tells of a rise or a fall by a factor, so that a head knows no such role of one.
_LEARNED = ALLOWED | {"factor": (NONE, "multiply")}


@dataclass(frozen=True)
class ReaderConfig:
    """Sizes of the head, and the backbone that it was trained on.

    Attributes:
        backbone: Name of the language model.
        backbone_weights: "pretrained", or "spectrum" for random directions with the same singular values.
        num_backbone_layers: Layers of it that run.
        dtype: What it computes in: "float32", or "bfloat16", which halves the time on processors that have it.
        hidden_size: Width of its states.
        d_model: Width of the head's hidden layers.
        num_members: Heads that are trained apart and vote.
        dropout: On the way in and in the hidden layers.
        confidence: Probability from which a number is given a part, or a sentence a statement; below it, silence.
        fingerprint: Tells the backbone's weights from others.
    """

    backbone: str = "smollm2-135m"
    backbone_weights: str = "pretrained"
    num_backbone_layers: int = 8
    dtype: str = "float32"
    hidden_size: int = 576
    d_model: int = 128
    num_members: int = 3
    dropout: float = 0.2
    confidence: float = 0.0
    fingerprint: str = ""

    def __post_init__(self) -> None:
        for f in fields(self):
            value, kind = getattr(self, f.name), type(f.default)
            whole = isinstance(value, int) and not isinstance(value, bool)
            fits = whole if kind is int else isinstance(value, kind) or (kind is float and whole)
            if not fits:
                raise ValueError(f"{f.name} is {value!r}; it must be of type {kind.__name__}")
        for name in ("hidden_size", "d_model", "num_members"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.num_backbone_layers < 0:
            raise ValueError(f"num_backbone_layers is {self.num_backbone_layers}; give 0 for all, or a number of them")
        if self.backbone_weights not in ("pretrained", "spectrum"):
            raise ValueError(f"backbone_weights is {self.backbone_weights!r}; choose pretrained or spectrum")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {self.dtype!r}; choose float32 or bfloat16")
        if self.d_model % 4:
            raise ValueError(f"d_model is {self.d_model}; it must be a multiple of 4")
        for name in ("dropout", "confidence"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1)")


class ReaderHead(nn.Module):
    """Scores roles of mentions and statements of sentences; its members are trained apart and vote."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(_Member(config) for _ in range(config.num_members))

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Returns probabilities of roles [M, roles], 0 where the grammar forbids, and of statements [K, 4]."""
        votes = [member(features) for member in self.members]
        roles, statements = (torch.stack(part).softmax(-1).mean(0) for part in zip(*votes, strict=True))
        return roles, statements

    def decide(self, features: Features) -> tuple[list[str], list[str]]:
        """Returns the role of each mention and the statement of each sentence; `none` where the vote is unsure.

        What plays a part only with a value (moments, durations) needs no certainty.
        """
        roles, statements = self(features)
        return self._decide(roles, statements, features.counts)

    def decide_text(self, features: Features) -> tuple[list[str], list[str]]:
        """Returns what `decide` does of the sentences of one text, completed by `complete_text`."""
        roles, statements = self(features)
        found = self._decide(roles, statements, features.counts)
        return complete_text(*found, roles, statements, max(LEAST, self.config.confidence))

    def _decide(self, roles: Tensor, statements: Tensor, counts: Sequence[int]) -> tuple[list[str], list[str]]:
        confidence = self.config.confidence
        return (
            [role for rows in roles.split(list(counts)) for role in choose_roles(rows, confidence)],
            [_choose(row, STATEMENTS, confidence) for row in statements],
        )


def choose_roles(rows: Tensor, confidence: float = 0.0) -> list[str]:
    """Returns the likeliest roles of the mentions of a sentence, in which no value is given twice for one time.

    Two limits of a side, or two factors, at one time contradict each other: together, the roles are those whose
    probabilities have the largest product. Several values at several times are left for the grammar to refuse.

    Args:
        rows: Probabilities [M, roles].
        confidence: Probability below which a value is `none`.

    Example:
        >>> rows = torch.zeros(2, len(ROLES))
        >>> for role, shares in {"none": (0.3, 0.1), "cap": (0.6, 0.8), "floor": (0.1, 0.1)}.items():
        ...     rows[:, ROLES.index(role)] = torch.tensor(shares)
        >>> choose_roles(rows), choose_roles(rows[:1])
        (['none', 'cap'], ['cap'])
    """
    found = [ROLES[best] for best in rows.argmax(-1).tolist()]
    valued = [k for k, role in enumerate(found) if role in VALUES]
    if len({found[k] for k in valued}) < len(valued) and sum(role in _TIMES for role in found) < 2:
        options = [*VALUES, *[NONE] * len(valued)]
        scores = rows[valued][:, [ROLES.index(role) for role in options]].log().clamp(min=-1e4)
        for k, column in zip(valued, linear_sum_assignment(scores, maximize=True)[1], strict=True):
            found[k] = options[column] if float(rows[k, ROLES.index(options[column])]) > 0 else NONE
    unsure = [
        role in VALUES and float(row[ROLES.index(role)]) < confidence for role, row in zip(found, rows, strict=True)
    ]
    return [NONE if doubt else role for doubt, role in zip(unsure, found, strict=True)]


def complete_text(
    found: Sequence[str], stated: Sequence[str], roles: Tensor, statements: Tensor, least: float = LEAST
) -> tuple[list[str], list[str]]:
    """Returns the roles and statements of a text, with what happens where it tells a time and nothing beside.

    A time that plays a part is that of something. Where no sentence has it, the likeliest value or statement of the
    text is taken, if it is likely enough.

    Args:
        found: Roles of its mentions.
        stated: Statements of its sentences.
        roles: Their probabilities [M, roles].
        statements: Their probabilities [K, 4].
        least: Probability below which nothing is taken.

    Example:
        >>> roles, statements = torch.zeros(1, len(ROLES)), torch.tensor([[0.6, 0.4, 0.0, 0.0]])
        >>> complete_text(["day"], ["none"], roles, statements)
        (['day'], ['zero'])
        >>> complete_text(["none"], ["none"], roles, statements)
        (['none'], ['none'])
    """
    found, stated = list(found), list(stated)
    told = any(role in _TOLD for role in found) or any(statement != NONE for statement in stated)
    if told or not any(role in _TIMES for role in found):
        return found, stated
    options = [
        (float(row[k]), stated, n, STATEMENTS[k]) for n, row in enumerate(statements) for k in range(1, len(row))
    ]
    options += [(float(row[ROLES.index(role)]), found, n, role) for n, row in enumerate(roles) for role in VALUES]
    share, names, n, name = max(options, key=lambda option: option[0])
    if share >= least:
        names[n] = name
    return found, stated


def _choose(row: Tensor, names: Sequence[str], confidence: float) -> str:
    best = int(row.argmax())
    return names[best] if float(row[best]) >= confidence else NONE


class _Member(nn.Module):
    """One hidden layer over the features of a mention, and one over those of a sentence."""

    allowed: Tensor

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        width, d = config.hidden_size, config.d_model
        self.mention_norm, self.sentence_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.kind = nn.Embedding(len(KINDS), d // 4)
        self.drop = nn.Dropout(config.dropout)
        self.mention_hidden, self.role = nn.Linear(4 * width + d // 4, d), nn.Linear(d, len(ROLES))
        self.sentence_hidden, self.statement = nn.Linear(3 * width, d), nn.Linear(d, len(STATEMENTS))
        allowed = torch.tensor([[role in _LEARNED[kind] for role in ROLES] for kind in KINDS])
        self.register_buffer("allowed", allowed, persistent=False)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Returns scores of roles [M, roles], minus infinity where the grammar forbids, and of statements [K, 4]."""
        x = self.mention_norm(features.mentions.float()).flatten(1)  # [M, 4 * width]
        x = torch.cat([self.drop(x), self.kind(features.kinds)], 1)
        roles = self.role(self.drop(F.gelu(self.mention_hidden(x))))
        y = self.drop(self.sentence_norm(features.sentences.float()).flatten(1))  # [K, 3 * width]
        statements = self.statement(self.drop(F.gelu(self.sentence_hidden(y))))
        return roles.masked_fill(~self.allowed[features.kinds], float("-inf")), statements


class LearnedReader:
    """A frozen language model and its trained head.

    Args:
        encoder: The frozen model.
        head: The trained part.

    Raises:
        ValueError: If the head was trained on other weights.
    """

    def __init__(self, encoder: TextEncoder, head: ReaderHead) -> None:
        if head.config.fingerprint and head.config.fingerprint != encoder.fingerprint:
            raise ValueError(
                f"the reader was trained on weights with fingerprint {head.config.fingerprint}, but the backbone "
                f"{head.config.backbone!r} has {encoder.fingerprint}; load that model or train a new reader"
            )
        self.encoder, self.head = encoder, head.eval()

    @torch.no_grad()
    def read(self, text: str) -> Reading:
        """Gives roles to the mentions of a text.

        Raises:
            ValueError: If the text is longer than the model can read.
        """
        reading = Reading.open(text)
        sentences = simplify(reading)
        if not sentences:
            return reading
        encoded = self.encoder.encode([sentence.text for sentence in sentences])
        found, statements = self.head.decide_text(build_features(encoded, sentences))
        roles, given = [NONE] * len(reading.mentions), iter(found)
        for place in reading.sentences:
            for k, mention in enumerate(reading.mentions):
                if place[0] <= mention.start and mention.end <= place[1]:
                    roles[k] = next(given)
        return Reading(text, reading.mentions, roles, reading.sentences, statements)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the head and what it was trained on into a folder; the backbone is not copied."""
        with replace_folder(folder, (WEIGHTS, CONFIG)) as staging:
            save_file({k: v.contiguous() for k, v in self.head.state_dict().items()}, staging / WEIGHTS)
            write_json(staging / CONFIG, asdict(self.head.config))

    @staticmethod
    def load_head(folder: str | Path) -> ReaderHead:
        """Reads a head; the caller gives it the backbone that `head.config` names.

        Raises:
            FileNotFoundError: If the folder holds no reader.
            OSError: If one of its files is damaged.
            ValueError: If its settings are impossible, or do not fit the weights.
        """
        folder = Path(folder)
        missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} holds no reader: {', '.join(missing)} missing; train one first")
        given = check_json(folder / CONFIG) or {}
        unknown = sorted(set(given) - {f.name for f in fields(ReaderConfig)})
        if unknown:
            raise ValueError(
                f"{folder / CONFIG} has unknown settings {unknown}; it comes from another version, so train the "
                f"reader again"
            )
        config = ReaderConfig(**given)
        # Sizes are held against the file's before memory is taken for them.
        header = read_header(folder / WEIGHTS)
        largest = max(config.hidden_size, config.d_model, config.num_members)
        if largest > max(header.largest, len(header.shapes)):
            raise ValueError(f"{folder / CONFIG} asks for a size of {largest}, which {WEIGHTS} does not hold")
        with torch.device("meta"):
            wanted = {name: tuple(t.shape) for name, t in ReaderHead(config).state_dict().items()}
        if wanted != header.shapes:
            wrong = sorted(k for k in {*wanted, *header.shapes} if wanted.get(k) != header.shapes.get(k))
            raise ValueError(f"{folder / WEIGHTS} does not fit {CONFIG}: {wrong[0]} has another shape or is missing")
        head = ReaderHead(config)
        head.load_state_dict(load_file(folder / WEIGHTS))
        return head
