import pytest

from tests.fixtures.series import write_series_csv


@pytest.fixture(scope="session")
def series_csv(tmp_path_factory):
    return write_series_csv(tmp_path_factory.mktemp("series") / "series.csv")
