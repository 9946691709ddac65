"""docs/INSTALL-MT5.md keeps to what there is: inputs and their captions, files, commands, the EA's own words."""

import re
import shlex
from pathlib import Path

import pytest

from bridge.terminal.build import EXPERT, MQL5
from tunetrade.cli import build_parser
from tunetrade.doctor_terminal import _CURES
from tunetrade.install_mt5 import COMPILED, sources

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "INSTALL-MT5.md").read_text(encoding="utf-8")
CODE = "\n".join(path.read_text(encoding="utf-8") for path in [EXPERT, *(MQL5 / "Include" / "TuneTrade").glob("*.mqh")])
INPUTS = dict(re.findall(r"^input [\w ]+?(Inp\w+)=.*?;\s*// (.*)$", CODE, re.M))


def test_there_are_ten_steps_each_with_what_one_sees_and_what_else_to_do():
    steps = re.split(r"^## (\d+)\. ", PAGE, flags=re.M)[1:]
    assert steps[::2] == [str(number) for number in range(1, 11)]
    for number, text in zip(steps[::2], steps[1::2], strict=True):
        assert "**You see**" in text, number
        assert "**If " in text or "| it means |" in text, number


def test_every_input_exists_and_its_caption_is_the_one_that_the_terminal_shows():
    named = set(re.findall(r"`(Inp\w+)`", PAGE))
    assert named and named <= set(INPUTS)
    rows = re.findall(r"^\| (.+?) \| `(Inp\w+)` \|", PAGE, re.M)
    assert len(rows) >= 9
    assert {name: caption for caption, name in rows} == {name: INPUTS[name] for _, name in rows}
    defaults = dict(re.findall(r"^input [\w ]+?(Inp\w+)=(.*?);", CODE, re.M))
    assert (defaults["InpPort"], defaults["InpDryRun"], defaults["InpAllowReal"]) == ("5757", "true", "false")
    assert set(re.findall(r"`(CLOCK_\w+)`", PAGE)) == set(re.findall(r"^\s+(CLOCK_\w+)=", CODE, re.M))


def test_every_command_parses():
    lines = re.findall(r"^    (tunetrade .+)$", PAGE, re.M) + re.findall(r"`(tunetrade [^`]+ [^`]+)`", PAGE)
    assert len(lines) >= 8
    for line in lines:
        assert callable(build_parser().parse_args(shlex.split(line)[1:]).verb), line


def test_every_file_and_every_link_exists():
    assert {"Experts/TuneTrade/TuneTrade.mq5", "Include/TuneTrade/Link.mqh"} <= set(sources())
    assert Path(COMPILED).name in PAGE and "TuneTrade.kill" in PAGE and '"TuneTrade.kill"' in CODE
    for target in re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize("words", [f'"{rule}"' for rule in re.findall(r"GUARD:(\w+)", PAGE)])
def test_every_guard_is_the_experts(words):
    assert f"Says({words}" in CODE


def test_the_words_and_menus_of_chart_page_and_doctor_agree():
    for words in ("live, model", "sending history", "greeting", "is not allowed", "inputs:", "dry run"):
        assert words in CODE and words in PAGE, words
    for words in _CURES:
        assert words in CODE or words in (ROOT / "bridge" / "service.py").read_text() or words == "says version", words
    assert "Tools > Options > Expert Advisors" in PAGE
    assert (
        "Tools > Options > Expert Advisors" in CODE and "Tools > Options > Expert Advisors" in _CURES["is not allowed"]
    )
    assert "Allow WebRequest for listed URL" in PAGE and "Allow WebRequest for listed URL" in _CURES["is not allowed"]


def test_the_page_says_that_no_metaeditor_has_seen_the_code_and_is_found():
    assert "**MetaEditor has not seen this code.**" in PAGE
    for file in ("README.md", "docs/LIVE.md", "bridge/mt5/README.md"):
        assert "INSTALL-MT5.md" in (ROOT / file).read_text(encoding="utf-8"), file
