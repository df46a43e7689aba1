import importlib
import sys
from pathlib import Path

import pytest

from tests.fixtures.backbones import save_tiny_backbone

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="session")
def load_script():
    """Returns a function that imports a program of `scripts/` by name, as it imports its neighbours."""
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    return save_tiny_backbone(tmp_path_factory.mktemp("backbone") / "gpt2", "gpt2")
