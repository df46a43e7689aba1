"""Settings for all tests: one thread unless OMP_NUM_THREADS says more, no network, the folders of optional data."""

import gc
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, and for every process that a test starts
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest
import torch

from tests.fixtures.series import write_series_csv

THREADS = int(os.environ["OMP_NUM_THREADS"].split(",")[0])
torch.set_num_threads(THREADS)  # fixtures of wider scope run before the one below
ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TSLLM_DATA", str(ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="module", autouse=True)
def _kept():
    """Lets searches for garbage, of which each training asks for one, pass over libraries and collected tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _reproducible():
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of measured real data; tests that need it are skipped without it."""
    folder = Path(os.environ["TSLLM_DATA"])
    if not (folder / "ETTh1.csv").is_file():
        pytest.skip(f"{folder}/ETTh1.csv is not there; set TSLLM_DATA")
    return folder


@pytest.fixture(scope="session")
def series_csv(tmp_path_factory) -> Path:
    """A small table of series as a CSV file."""
    return write_series_csv(tmp_path_factory.mktemp("series") / "series.csv")
