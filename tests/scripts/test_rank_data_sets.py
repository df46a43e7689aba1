import pandas as pd
import pytest


@pytest.fixture
def tables(tmp_path):
    """Five tables in which A is best four times and second once, B the other way round, C last; D fails once."""
    paths = []
    for number in range(5):
        best, second = (0.9, 0.8) if number == 4 else (0.8, 0.9)
        table = pd.DataFrame(
            {"model": list("ABCD"), "relative_mae": [best, second, 1.0, 0.1], "failed": [0, 0, 0, int(number == 2)]}
        )
        paths.append(tmp_path / f"scores-{number}.csv")
        table.to_csv(paths[-1], index=False)
    return paths


def test_ranks_are_means_over_data_sets_of_models_that_forecast_everything(load_script, tables, tmp_path, capsys):
    script = load_script("rank_data_sets")
    script.main([*map(str, tables), "--output", str(tmp_path / "ranks.svg")])
    said = capsys.readouterr().out.splitlines()
    assert [line.split() for line in said[:3]] == [["A", "1.20"], ["B", "1.80"], ["C", "3.00"]]
    # Friedman: 12 / (5 * 3 * 4) * (6^2 + 9^2 + 15^2) - 3 * 5 * 4 = 8.4 with two degrees of freedom; exp(-4.2) = .015.
    # Nemenyi: 3.314 / sqrt(2) * sqrt(3 * 4 / (6 * 5)) = 1.48.
    assert said[3] == "5 data sets, Friedman p = 0.015, critical difference 1.48 at 5 %"
    assert said[4] == "no rank, not on every data set: D"
    assert (tmp_path / "ranks.svg").read_text().count("critical difference 1.48") == 1


def test_too_few_data_sets_and_foreign_tables_are_refused(load_script, tables, tmp_path):
    script = load_script("rank_data_sets")
    with pytest.raises(SystemExit, match="4 data sets and 3 models that forecast all of them; ranks take 5"):
        script.main(list(map(str, tables[:4])))
    with pytest.raises(ValueError, match="has no column wql; give tables of scores"):
        script.main([*map(str, tables), "--metric", "wql"])
