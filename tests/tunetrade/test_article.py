"""The articles' protocol: their printed figures, the shape of their data, and an experiment that ends the same."""

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from forecasting.bars import Bars, load_bars
from forecasting.base.numbers import number_codec
from forecasting.codecs.grammar import FORBIDDEN
from forecasting.errors import ConfigError, DataError
from tunetrade.article.checks import AGREES, OPEN, absurd_price, checks, side_by_side
from tunetrade.article.comparison import aligned, errors, misaligned
from tunetrade.article.dataset import blocks, dataset, shared_closes, tokens_of
from tunetrade.article.defects import defects
from tunetrade.article.experiment import Settings, base_of, best_shares, many, run
from tunetrade.article.page import verdict
from tunetrade.article.published import GENERATED, TABLE, TRUTH
from tunetrade.cli import main
from tunetrade.progress import Board

PUBLISHED = {  # MSE of the printed sequences as the notes on the articles give them, by hand
    "full": (1.1632e-7, 1.7433e-7),
    "lora": (7.6287e-8, 1.1145e-7),
    "adapter": (1.1498e-7, 2.0267e-7),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_printed_sequences_give_the_known_errors(name: str) -> None:
    row = side_by_side()[name]
    assert (row["misaligned"]["values"], row["aligned"]["values"]) == (30, 20)
    assert row["misaligned"]["mse"] == pytest.approx(PUBLISHED[name][0], rel=5e-5)
    assert row["aligned"]["mse"] == pytest.approx(PUBLISHED[name][1], rel=5e-5)
    by_hand = sum((GENERATED[name][k] - TRUTH[k - 1]) ** 2 for k in range(1, 21)) / 20
    assert row["aligned"]["mse"] == pytest.approx(by_hand, rel=1e-12)


def test_the_last_price_beats_two_of_the_three() -> None:
    rows = side_by_side()
    last = rows["last price"]["aligned"]["mse"]
    assert last == pytest.approx(1.4181e-7, rel=5e-5)
    assert [name for name in TABLE if rows[name]["aligned"]["mse"] > last] == ["full", "adapter"]


def test_which_printed_figures_agree() -> None:
    verdicts = {check.figure: check.verdict for check in checks()}
    assert {figure for figure, verdict in verdicts.items() if verdict != AGREES} == {f"{name}: MSE" for name in TABLE}
    assert all(verdicts[f"{name}: MSE"] == OPEN for name in TABLE)


def test_a_figure_that_does_not_follow_is_said_to_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from tunetrade.article import checks as module

    wrong = {**TABLE, "lora": replace(TABLE["lora"], rmse=0.00032, mse=5e-8)}
    monkeypatch.setattr(module, "TABLE", wrong)
    differing = {check.figure for check in checks() if check.verdict == "differs"}
    assert differing == {"lora: RMSE", "lora: NRMSE", "lora: MSE"}


def test_errors_by_hand() -> None:
    found = errors((1.0, 3.0, 5.0), (2.0, 1.0))
    assert (found.mse, found.nrmse, found.values) == (2.5, 2.5**0.5 / 2, 2)
    truth = tuple(float(i) for i in range(21, 61))
    inputs, written = tuple(float(i) for i in range(1, 20)), tuple(float(i) for i in range(20, 41))
    assert misaligned(inputs, written, truth).mse == 400  # every value is compared with the bar 20 later
    assert aligned(written, truth).mse == 0


def test_an_absurd_price_makes_nrmse_better() -> None:
    found = absurd_price()
    assert found["rmse_after"] > 5 * found["rmse_before"]
    assert found["nrmse_after"] < 0.5 * found["nrmse_before"]


@pytest.fixture(scope="module")
def nzdusd() -> Bars:
    return load_bars("ecb:NZDUSD")


def test_the_data_set_has_the_published_shape(nzdusd: Bars) -> None:
    held = dataset(nzdusd)
    assert held.rows.shape == (2441, 60)
    assert held.published_rows.shape == (2431, 60)
    positions = np.lib.stride_tricks.sliding_window_view(np.arange(2500), 60)
    trained = set(positions[:-10].ravel().tolist())
    assert shared_closes(2441, 60, 10) == len(trained & set(positions[-1].tolist())) == 50
    assert held.window(held.last).tolist() == held.rows[-1].tolist()
    assert held.closes.tolist() == [float(f"{close:.5f}") for close in nzdusd.closes[-2500:]]


def test_the_repaired_test_shares_no_close_with_its_training(nzdusd: Bars) -> None:
    held = dataset(nzdusd)
    positions = np.lib.stride_tricks.sliding_window_view(np.arange(2500), 60)
    trained = set(positions[: len(held.clean_rows)].ravel().tolist())
    asked = [set(range(origin - 18, origin + 42)) for origin in held.origins]
    assert not trained & set().union(*asked)
    assert max(trained) + 1 == min(set().union(*asked))
    judged = [set(range(origin + 2, origin + 22)) for origin in held.origins]
    assert sum(map(len, judged)) == len(set().union(*judged)) == 20 * len(held.origins) == 20 * 23


def test_a_series_that_is_too_short_is_refused(nzdusd: Bars) -> None:
    with pytest.raises(DataError, match="ecb:NZDUSD has 7126 bars, the articles' data set 8000"):
        dataset(nzdusd, 8000)


def test_the_tokenizer_of_numbers_writes_a_close_in_five_tokens_and_reads_it_back() -> None:
    codec = number_codec(5)
    closes = np.array([0.61163, 1.0, 9.99999, 12.34567])
    ids = tokens_of(codec, closes)
    assert codec.text_of(ids) == " 0.61163 1.00000 9.99999 12.34567"
    assert [codec.text_of(ids[i : i + 1]) for i in range(5)] == [
        " 0",
        ".",
        "6",
        "11",
        "63",
    ]  # 11 comes first
    assert (codec.grammar.needs[0] < FORBIDDEN).sum() == 11, "a space, or a space with a digit"


def test_blocks_are_the_text_cut_up() -> None:
    codec = number_codec(2)
    rows = np.array([[1.25, 1.5, 1.75], [1.5, 1.75, 2.0]])
    cut = blocks(codec, rows, 4)
    assert codec.text_of(cut.ravel()) == " 1.25 1.50 1.75 1.50 1.75 2.00"[: len(codec.text_of(cut.ravel()))]
    assert cut.shape == (4, 4)  # 18 tokens, three a close


def test_shares_of_draws_by_loops() -> None:
    draws = {"a": [1.0, 4.0], "b": [2.0, 2.0], "c": [3.0, 1.0]}
    wins = dict.fromkeys(draws, 0.0)
    for a, b, c in product(*draws.values()):
        least = [name for name, value in zip(draws, (a, b, c), strict=True) if value == min(a, b, c)]
        for name in least:
            wins[name] += 1 / len(least) / 8
    assert best_shares(draws) == pytest.approx(wins)


def test_the_mean_difference_of_windows_and_its_error_by_hand() -> None:
    windows = np.tile(np.arange(1.0, 61.0), (2, 1))
    windows[1, 19:] = 19.0  # the price stands still
    paths = np.full((2, 4, 21), 19.0)
    paths[0, 0] += 1
    found = many(windows, paths)
    rising = np.arange(2.0, 22.0)  # of the 20 bars after the skipped one
    assert found["aligned"] == pytest.approx(np.mean((rising - 1) ** 2) / 2)
    one = np.mean((rising - 0.25) ** 2) - np.mean(rising**2)
    assert found["against_last"] == pytest.approx(one / 2)
    assert found["error"] == pytest.approx(np.std([one, 0], ddof=1) / 2**0.5)


@pytest.mark.parametrize(("difference", "word"), [(-3.0, "better"), (3.0, "worse"), (1.9, "not shown")])
def test_a_difference_within_two_errors_is_not_shown(difference: float, word: str) -> None:
    assert verdict({"against_last": difference, "error": 1.0}) == word
    assert verdict({"against_last": difference, "error": None}) == "not shown"


def test_a_base_that_writes_no_text_is_refused(tiny_base: Path, nzdusd: Bars, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not write prices as text; give gpt2, a folder"):
        base_of(Settings(str(tiny_base)), dataset(nzdusd), nzdusd, tmp_path, Board(1))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the verb ran, after it was interrupted in its third training."""
    folder = tmp_path_factory.mktemp("article")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        show = Board.show

        def interrupted(board: Board, slot: int, what: str, done: int, *others: object) -> None:
            if what == "adapter, published rows" and done == 2:
                raise KeyboardInterrupt
            show(board, slot, what, done, *others)  # type: ignore[arg-type]

        patch.setattr(Board, "show", interrupted)
        assert main(["article", "--quick"]) == 130
        patch.setattr(Board, "show", show)
        kept = {file: file.stat().st_mtime_ns for file in Path("runs/article").glob("*-lora-*.json")}
        assert len(kept) == 1
        assert main(["article", "--quick"]) == 0
        assert {file: file.stat().st_mtime_ns for file in kept} == kept, "trained twice"
    return folder


def test_the_page_says_what_was_found(quick: Path) -> None:
    page = (quick / "reports/article/index.html").read_text()
    record = json.loads((quick / "reports/article/article.json").read_text())
    listed = (quick / "reports/article/article.md").read_text()
    assert record["experiment"]["data"]["closes_written_at_most"] == 21
    assert len(record["defects"]) == 10
    for defect in record["defects"]:
        assert defect["title"] in page
        assert defect["title"] in listed
    assert "The base is not GPT-2 but a small one made here" in page
    assert "absolute figures cannot be expected" in page
    assert "nan" not in re.sub(r"<[^>]*>", " ", page).lower().split()
    assert "http" not in page.replace("http://www.w3.org", "")
    for name in re.findall(r"\(plots/(\w+)\.png\)", listed):
        assert (quick / f"reports/article/plots/{name}.png").is_file()
    assert page.count("<svg") == 3


def test_defects_are_told_in_figures_computed_here(quick: Path) -> None:
    record = json.loads((quick / "reports/article/article.json").read_text())["experiment"]
    told = {defect.title: defect.figures for defect in defects(record, side_by_side(), absurd_price())}
    assert "50 of the 60 closes" in told["The answers are in the lesson"]
    assert "full 41%, lora 63%, adapter 42%" in told["Old prices are marked as forecasts"]
    assert "beats full and adapter" in told["Nothing is compared with doing nothing"]
    assert "hold 12.0 closes" in told["Lengths are counted in pieces of text, not in bars"]


@pytest.mark.slow
def test_an_interrupted_experiment_ends_as_an_unbroken_one(quick: Path, tmp_path: Path) -> None:
    unbroken = run("ecb:NZDUSD", Settings.quick("own", 1), tmp_path, Board(1))
    broken = run("ecb:NZDUSD", Settings.quick("own", 1), quick / "runs/article", Board(1))
    for part in ("published", "clean"):
        for method in TABLE:
            one, other = (record[part][method] for record in (unbroken, broken))
            for key in ("windows", "token_loss", "parse_chance"):
                assert one[key] == other[key]
            assert one["single"]["draws"] == other["single"]["draws"]
