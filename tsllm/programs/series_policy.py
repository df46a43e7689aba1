"""The program of the reward recipes: supervised start, reward optimisation, and the controls that it is judged by."""

import logging
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from transformers import set_seed
from transformers.utils import SAFE_WEIGHTS_NAME
from transformers.utils import logging as library_logging

from tsllm.data.prepared import PreparedData
from tsllm.data.target import TargetScale
from tsllm.hub.spec import ForecasterSpec
from tsllm.models import find_model_class
from tsllm.models.base import ForecastModel
from tsllm.programs.arms_legend import ARMS
from tsllm.programs.artefacts import TrainingRun, write_run
from tsllm.programs.series import finish_series, hold_output_dir, prepare_series, read_start
from tsllm.programs.stages import Stage, describe_model, describe_training
from tsllm.programs.told import ContextArguments, tell_parts
from tsllm.rl.dry_run import DryRun, dry_run
from tsllm.rl.rewards import Reward, build_reward
from tsllm.rl.windows import ScaledWindows
from tsllm.training.args import ArgumentsError, DataArguments, ModelArguments
from tsllm.training.build import build_for_data
from tsllm.training.policy.args import PolicyArguments, PolicyTrainingArguments
from tsllm.training.policy.scores import score_decisions
from tsllm.training.policy.trainer import PolicyTrainer
from tsllm.training.trainer import ForecastTrainer, find_checkpoint

logger = logging.getLogger(__name__)

POLICY, START, SUPERVISED, DIRECT = "policy", "start", "supervised", "direct"
SCORES_FILE = "scores.npz"

Scores = dict[str, np.ndarray]


@dataclass
class ControlArguments:
    """What the optimised policy is compared with, by the same command.

    Attributes:
        controls: Train the controls: as many more supervised steps, and direct gradient ascent on the reward where it
            has a gradient. Without them there is no evidence that the reward did anything.
        start_steps: Supervised steps of the start; not used if `pretrained` names one.
        start_learning_rate: Their learning rate.
        control_learning_rate: Of further supervised training; null = `learning_rate`.
        decisions: Rewards that every arm's point forecasts are scored on besides the trained one: name -> reward.
        decision_quantiles: Further decisions, name -> quantile level of the predictive distribution, by which every
            reward is scored once more, as `reward@name`; a newsvendor with costs u and o takes u / (u + o).
    """

    controls: bool = True
    start_steps: int = 400
    start_learning_rate: float = 1e-3
    control_learning_rate: float | None = None
    decisions: dict[str, Any] = field(default_factory=dict)
    decision_quantiles: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.start_steps < 1:
            raise ArgumentsError(f"start_steps is {self.start_steps}; it must be at least 1")
        for name, level in self.decision_quantiles.items():
            if not isinstance(level, int | float) or not 0 < level < 1:
                raise ArgumentsError(f"decision_quantiles.{name} is {level!r}; it must lie in (0, 1)")
        self.build_decisions()

    def build_decisions(self) -> dict[str, Reward]:
        """Returns the rewards of `decisions`."""
        return {name: build_reward(spec) for name, spec in self.decisions.items()}


@dataclass
class PolicyRun:
    """A finished run.

    Attributes:
        run: The optimised model with its artefacts.
        arms: Arm -> score -> test values by window and channel, [N, C]; `pit` [N, C, 20].
        overlap: How many consecutive test windows share a target step.
    """

    run: TrainingRun
    arms: dict[str, Scores]
    overlap: int


def _refuse_transform(data_args: DataArguments, earlier: ForecasterSpec | None, pretrained: Any) -> None:
    """Refuses a target on another scale: rewards compare paths with the values as they are.

    Raises:
        ArgumentsError: If one was asked for, or the start learned one.
    """
    why = "a policy is trained on the values as they are, by which its reward judges"
    if data_args.transform not in (None, "none"):
        raise ArgumentsError(f"transform is {data_args.transform!r}, but {why}; leave it out")
    saved = TargetScale() if earlier is None else TargetScale(**earlier.target_scale)
    if saved.transform != "none":
        raise ArgumentsError(
            f"{pretrained} learned its target on the scale {saved.transform!r}, but {why}; start from a model "
            f"that was trained without transform, or go on without rewards (`tsllm fit --model {pretrained}`)"
        )


class _Program:
    """What the arms share: data, one model, the start's tensors, the scores."""

    def __init__(
        self,
        model_args: ModelArguments,
        data_args: DataArguments,
        args: PolicyTrainingArguments,
        policy: PolicyArguments,
        controls: ControlArguments,
        told: ContextArguments,
    ) -> None:
        self.model_args, self.args, self.policy, self.controls = model_args, args, policy, controls
        self.earlier = read_start(model_args.pretrained)
        _refuse_transform(data_args, self.earlier, model_args.pretrained)
        self.data: PreparedData = prepare_series(
            find_model_class(model_args.model),
            data_args,
            self.earlier,
            model_args.pretrained,
            model_args.model_config,
        )
        self.folder = Path(args.output_dir or ".")
        self.rewards = {"reward": policy.build_reward(), **controls.build_decisions()}
        self.trial = self.try_rewards()
        set_seed(args.seed)
        self.model: ForecastModel = build_for_data(
            model_args.model, model_args.model_config, self.data, pretrained=model_args.pretrained
        )
        texts = tell_parts(self.model, self.data, told, data_args.day_first)
        self.seconds: dict[str, float] = {}
        # Everything that a start and its controls depend on besides their own training arguments.
        parts = (self.data.train, self.data.validation)
        self.basis = {
            "model": describe_model(self.model),
            "data": [None if part is None else part.digest() for part in parts],
            "scaler": repr(self.data.scaler),
        } | ({} if texts is None else {"told": texts.digest()})

    def try_rewards(self) -> DryRun:
        """Tries every reward on training windows, before anything is built or trained.

        Raises:
            RewardError: If one raises, or nothing can be learned from the one that is trained on.
        """
        windows = ScaledWindows(self.data.train, self.data.scaler)
        found = {}
        for name, reward in self.rewards.items():
            scaled = name == "reward" and self.policy.scale_rewards
            found[name] = dry_run(
                reward, windows, season=self.data.task.season, scale_rewards=scaled, seed=self.args.seed
            )
        trial = found["reward"].check()
        logger.warning(trial.summary())
        for warning in trial.warnings:
            logger.warning(warning)
        return trial

    def stage(self, arm: str, **settings: Any) -> Stage:
        """Returns the stage of an arm, known by all that its results depend on."""
        return Stage(self.folder / arm, self.basis | settings, writes=self.args.should_save)

    def make_start(self) -> None:
        """Trains the supervised start, goes on with one that was interrupted, or takes up a finished one.

        Raises:
            ArgumentsError: If the output folder holds a start that was trained with other settings.
        """
        if self.model_args.pretrained is None:
            trainer = self.make_supervised(START, self.controls.start_steps, self.controls.start_learning_rate)
            stage = self.stage(START, training=describe_training(trainer.args))
            path = self.folder / START / SAFE_WEIGHTS_NAME
            if stage.is_finished and path.is_file():
                logger.warning("the supervised start is taken from %s", path)
                self.model.load_trained_state(load_file(path), origin=str(path))
            else:
                checkpoint = stage.find_checkpoint(self.args.world_size)
                stage.begin()
                self.announce(START, trainer)
                trainer.train(checkpoint)
                self.seconds[START] = trainer.stopwatch.seconds
                trainer.save_model(str(self.folder / START))
                stage.finish()
        self.start = {k: v.detach().cpu().clone() for k, v in self.model.trained_state().items()}
        self.basis["start"] = describe_model(self.model)["weights"]

    def make_supervised(self, arm: str, steps: int, learning_rate: float) -> ForecastTrainer:
        """Builds the trainer of a supervised arm."""
        args = replace(
            self.args,
            output_dir=str(self.folder / arm),
            max_steps=steps,
            learning_rate=learning_rate,
            metric_for_best_model="loss",
            greater_is_better=False,
        )
        return ForecastTrainer(self.model, args, self.data.train, self.data.validation, self.data.scaler)

    def announce(self, arm: str, trainer: ForecastTrainer) -> None:
        """Heads the log of an arm's training, since several follow one another."""
        if self.args.should_log:
            logger.warning("training of %s (%s): %d steps", arm, ARMS[arm], trainer.args.max_steps)

    def restart(self) -> None:
        """Puts the model back to the supervised start."""
        self.model.load_trained_state(self.start, origin="the supervised start")

    def make_policy(self, objective: str, folder: Path) -> PolicyTrainer:
        """Builds the trainer of an arm that optimises the reward."""
        policy = self.policy
        if objective == DIRECT:
            policy = replace(
                policy, objective=DIRECT, epsilon_low=None, epsilon_high=None, beta=None, num_iterations=1
            )
        args = replace(self.args, output_dir=str(folder))
        data = self.data
        return PolicyTrainer(
            self.model, args, policy, data.train, data.validation, data.scaler, season=self.data.task.season
        )

    def score(self, arm: str) -> Scores:
        """Scores the model on the test part and keeps the scores."""
        path = (self.folder if arm == POLICY else self.folder / arm) / SCORES_FILE
        scores = score_decisions(
            self.model,
            ScaledWindows(self.data.test, self.data.scaler),
            self.rewards,
            self.data.task.season,
            keys=frozenset(self.model.input_keys()),
            num_samples=self.policy.eval_samples,
            batch_size=self.args.per_device_eval_batch_size,
            seed=self.args.seed,
            quantiles=self.controls.decision_quantiles,
        )
        if self.args.should_save:
            path.parent.mkdir(parents=True, exist_ok=True)
            made = path.with_name(f".{path.name}")
            np.savez(made, **scores)  # type: ignore[arg-type]
            made.replace(path)
        return scores

    def control_stage(self, arm: str, trainer: ForecastTrainer) -> Stage:
        """Returns the stage of a control: how it is trained and how it is scored."""
        scoring = {
            "decisions": self.controls.decisions,
            "quantiles": self.controls.decision_quantiles,
            "samples": self.policy.eval_samples,
            "test": None if self.data.test is None else self.data.test.digest(),
        }
        policy = asdict(trainer.policy) if isinstance(trainer, PolicyTrainer) else {"reward": self.policy.reward}
        return self.stage(arm, training=describe_training(trainer.args), policy=policy, scoring=scoring)


def run_policy(
    model_args: ModelArguments,
    data_args: DataArguments,
    args: PolicyTrainingArguments,
    policy: PolicyArguments,
    controls: ControlArguments,
    recipe: str = "",
    told: ContextArguments | None = None,
) -> PolicyRun:
    """Optimises a reward from a supervised start, trains the controls and scores all of them once on the test part.

    Texts (`told`) are read by every arm, in training and test.

    Raises:
        ArgumentsError: If the arguments do not fit one another, or texts are given to a model that reads none.
        FrameError: If the texts do not fit the data, or do not say when they were published.
        FileExistsError: If the output folder holds another run.
    """
    library_logging.enable_progress_bar()
    resume = bool(args.resume_from_checkpoint)
    with hold_output_dir(args) as folder:
        if not resume and args.overwrite_output_dir and args.should_save:
            for arm in (START, SUPERVISED, DIRECT, POLICY):
                shutil.rmtree(folder / arm, ignore_errors=True)
        program = _Program(model_args, data_args, args, policy, controls, told or ContextArguments())
        program.make_start()
        arms = {START: program.score(START)}
        if controls.controls:
            arms |= _train_controls(program)
        program.restart()
        set_seed(args.seed)
        trainer = program.make_policy(policy.objective, folder)
        train_policy(program, trainer)
        arms[POLICY] = program.score(POLICY)
        program.seconds[POLICY] = trainer.stopwatch.seconds
        run = _finish(program, trainer, arms, recipe)
        horizon = program.data.task.h
    return PolicyRun(run, arms, overlap=-(-horizon // data_args.test_stride))


def train_policy(program: _Program, trainer: PolicyTrainer) -> None:
    """Trains the policy, or goes on with it; a run that was stopped before its first checkpoint begins anew.

    Raises:
        ArgumentsError: If the checkpoints in the output folder were made with other settings.
    """
    args = program.args
    lengths = ("max_steps", "num_train_epochs", "eval_steps", "save_steps")  # a run may be made longer
    training = describe_training(trainer.args, lengths)
    stage = program.stage(POLICY, training=training, policy=asdict(program.policy))
    checkpoint: Any = args.resume_from_checkpoint or None
    if checkpoint is not None:
        stage.check()
    if checkpoint is True:
        try:
            checkpoint = str(find_checkpoint(program.folder, args.world_size))
        except FileNotFoundError:
            logger.warning("%s holds no checkpoint of the policy yet; its training begins", program.folder)
            checkpoint = None
    stage.begin()
    program.announce(POLICY, trainer)
    trainer.train(checkpoint)
    stage.finish()


def _train_controls(program: _Program) -> dict[str, Scores]:
    args, controls = program.args, program.controls
    arms: dict[str, Scores] = {}
    wanted = [SUPERVISED]
    direct = program.rewards["reward"].differentiable and program.model.config.head != "bins"
    if direct and not program.policy.is_direct:
        wanted.append(DIRECT)
    for arm in wanted:
        program.restart()
        set_seed(args.seed)
        trainer: ForecastTrainer
        if arm == SUPERVISED:
            rate = controls.control_learning_rate or args.learning_rate
            trainer = program.make_supervised(arm, args.max_steps, rate)
        else:
            trainer = program.make_policy(DIRECT, program.folder / DIRECT)
        stage = program.control_stage(arm, trainer)
        scores = program.folder / arm / SCORES_FILE
        if stage.is_finished and scores.is_file():
            logger.warning("the control %s is taken from %s", arm, scores)
            with np.load(scores) as loaded:
                arms[arm] = dict(loaded)
            continue
        checkpoint = stage.find_checkpoint(args.world_size)
        stage.begin()
        program.announce(arm, trainer)
        trainer.train(checkpoint)
        program.seconds[arm] = trainer.stopwatch.seconds
        arms[arm] = program.score(arm)
        stage.finish()
    return arms


def _finish(program: _Program, trainer: PolicyTrainer, arms: dict[str, Scores], recipe: str) -> TrainingRun:
    objective = trainer.objective
    more = {
        "arms": {arm: summarise(scores) for arm, scores in arms.items()},
        "arm_seconds": {arm: round(value, 3) for arm, value in program.seconds.items()},
        "objective": program.policy.objective if objective is None else objective.name,
        "paper": None if objective is None else objective.paper,
        "reward": program.policy.reward,
        "dry_run": asdict(program.trial),
        "num_samples": program.policy.num_samples,
    }
    run = finish_series(trainer, program.data, program.model_args.model, program.folder, program.earlier, more)
    write_run(run, trainer, recipe)
    return run


def summarise(scores: Scores) -> dict[str, Any]:
    """Returns the mean of each score over windows and channels, and the histogram `pit`."""
    means: dict[str, Any] = {k: float(np.nanmean(v)) for k, v in scores.items() if k != "pit"}
    means["pit"] = [round(float(x), 4) for x in np.nanmean(scores["pit"], axis=(0, 1))]
    return means
