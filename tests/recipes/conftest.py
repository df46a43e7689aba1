import pytest

from tests.fixtures.backbones import save_tiny_backbone
from tests.fixtures.series import write_series_csv


@pytest.fixture(scope="session")
def series_csv(tmp_path_factory):
    return write_series_csv(tmp_path_factory.mktemp("series") / "series.csv")


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "gpt2", "gpt2", layers=1, width=16)


@pytest.fixture(scope="session")
def tiny(series_csv):
    """Arguments of a run that takes a second once the program has started."""
    return [
        f"dataset={series_csv}",
        "context_length=24",
        "prediction_length=6",
        "per_device_train_batch_size=8",
        "learning_rate=1e-2",
        "--use_cpu",
        "disable_tqdm=true",
        "eval_strategy=steps",
        "save_strategy=steps",
        "logging_steps=1",
        "early_stopping_patience=0",
        "seed=3",
    ]
