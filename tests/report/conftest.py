"""A synthetic study and its report, made once for all tests of this folder."""

from pathlib import Path

import pytest
from synthetic import write_study


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory) -> Path:
    return write_study(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def report(study_folder, tmp_path_factory) -> Path:
    from tunetrade.report import write_report

    out = tmp_path_factory.mktemp("reports") / "demo"
    assert write_report(study_folder, out) == out / "index.html"
    return out
