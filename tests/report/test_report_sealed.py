"""The page never says PASS of files that are not those the audit judged."""

import pandas as pd
import pytest
from synthetic import edit_json, write_study

from forecasting.files import read_json, write_json, write_parquet
from tunetrade.audit.seal import broken, seal
from tunetrade.report import write_report


@pytest.fixture
def folder(tmp_path):
    return write_study(tmp_path, ("EURUSD-D1",), ("lora", "random-walk", "ewma-t"), (1,), 40)


def audited(cell, statuses=("PASS", "PASS", "SKIPPED"), **more):
    checks = [{"name": f"check-{n}", "status": status, "said": f"said {n}"} for n, status in enumerate(statuses)]
    write_json(cell / "audit.json", {"layout": 1, "checks": checks, **more})


def test_a_table_changed_after_the_audit_takes_its_pass_away_and_makes_evidence_anew(folder, tmp_path):
    cell = folder / "EURUSD-D1/lora/1"
    audited(cell, files=seal(cell))
    page = write_report(folder, tmp_path / "before").read_text()
    assert "2 of 3, 1 skipped" in page and "changed since" not in page and "earlier version" not in page
    table = pd.read_parquet(cell / "forecasts.parquet")
    write_parquet(cell / "forecasts.parquet", table.assign(crps=table["crps"] / 2))
    edit_json(cell / "forecast.json", lambda forecast: forecast.update(seconds=123.0))  # measures the machine
    assert broken(cell, read_json(cell / "audit.json")) == ["forecasts.parquet"]
    after = write_report(folder, tmp_path / "after").read_text()
    assert "changed since the audit: forecasts.parquet" in after and '<td class="loses"' in after
    ratios = [pd.read_csv(tmp_path / name / "tables/verdicts.csv").query("method == 'lora' and comparison == 'density'")
              ["value"].iloc[0] for name in ("before", "after")]  # fmt: skip
    assert ratios[1] == pytest.approx(1 - (1 - ratios[0]) / 2)  # skill is 1 less the ratio of the tables


def test_an_audit_without_hashes_is_of_an_earlier_version_and_warnings_are_counted(folder, tmp_path):
    audited(folder / "EURUSD-D1/lora/1", ("PASS", "WARN", "WARN"))
    cell = folder / "EURUSD-D1/ewma-t/1"
    audited(cell, ("PASS", "WARN"), files=seal(cell))
    page = write_report(folder, tmp_path / "out").read_text()
    assert "audited by an earlier version, 2 warnings" in page and ">PASS, 1 warning<" in page
    assert "check-1: said 1" in page
