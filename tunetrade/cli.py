"""One command, one verb a job. A wing is imported when its verb runs, so that help and errors come at once."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tunetrade import __version__

Verb = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script.

    Gives the exit status: 0 done, 1 some cells failed, 2 the user's error, 130 Ctrl-C, 141 nobody reads the output.
    """
    asked = build_parser().parse_args(arguments)
    try:
        status = int(asked.verb(asked))
        sys.stdout.flush()
    except KeyboardInterrupt:
        kept = (
            "what is done is kept, the same command goes on from there"
            if asked.resumes
            else "give the same command again"
        )
        print(f"\ntunetrade: interrupted; {kept}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _drop_output()
        return 141
    except Exception as error:
        from tunetrade.faults import told

        message = told(error)
        if message is None:
            raise
        print(f"tunetrade: error: {message}", file=sys.stderr)
        return 2
    return status


def _drop_output() -> None:
    """Send what is still buffered nowhere, or the interpreter would complain about it on its way out."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="tunetrade",
        description="Fine-tune GPT-2 on closing prices, trade its forecasts, see which tuning method earns its cost.",
        epilog="Each verb has help with an example: tunetrade study --help",
    )
    parser.add_argument("--version", action="version", version=f"tunetrade {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _demo(verbs)
    _data(verbs)
    _pretrain(verbs)
    _train(verbs)
    _forecast(verbs)
    _backtest(verbs)
    _study(verbs)
    _tune(verbs)
    _optimize(verbs)
    _report(verbs)
    _compare(verbs)
    _tester(verbs)
    _reconcile(verbs)
    _audit(verbs)
    _robustness(verbs)
    _serve(verbs)
    _replay(verbs)
    _export_tester(verbs)
    _curve_key(verbs)
    _install_mt5(verbs)
    _export(verbs)
    _walk(verbs)
    _article(verbs)
    _doctor(verbs)
    return parser


def _verb(
    verbs: Any, name: str, job: str, example: str, run: str, module: str = "tunetrade.verbs"
) -> argparse.ArgumentParser:
    """A verb whose work is the function `run` of a module, imported only when it is asked for."""

    def call(asked: argparse.Namespace) -> int:
        from importlib import import_module

        return int(getattr(import_module(module), run)(asked))

    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=job,
        description=job[0].upper() + job[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(
        verb=call, resumes=name in ("demo", "study", "tune", "optimize", "train", "forecast", "article")
    )
    return parser


def _demo(verbs: Any) -> None:
    job = "run the demo study on real exchange rates and write its report"
    parser = _verb(verbs, "demo", job, "tunetrade demo", "demo")
    _study_options(parser)


def _data(verbs: Any) -> None:
    job = "read a source of bars, check it, print its quality and plot it"
    parser = _verb(verbs, "data", job, "tunetrade data ecb:NZDUSD --plot nzdusd.png", "data")
    parser.add_argument(
        "source",
        help="ecb:PAIR, ecb-latest:PAIR, journal:SYMBOL,TIMEFRAME or a file: MetaTrader 5 export, CSV, Parquet",
    )
    _source_options(parser)
    parser.add_argument("--plot", metavar="FILE", help="where the plot goes (default: SYMBOL-TIMEFRAME.png)")
    _json_option(parser)


def _pretrain(verbs: Any) -> None:
    job = "train an embedded base anew from ECB crosses before its cut-off"
    parser = _verb(verbs, "pretrain", job, "tunetrade pretrain --out my-base", "pretrain")
    parser.add_argument(
        "--codec", default="bins", choices=("bins", "digits"), help="how the base writes closes (default: bins)"
    )
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="folder to write (default: base, or base-digits)",
    )
    parser.add_argument(
        "--cutoff", default=None, metavar="DATE", help="last day of training data (default: 2014-12-31)"
    )
    parser.add_argument("--steps", type=int, default=None, help="training steps (default: the committed recipe's)")
    parser.add_argument("--seed", type=int, default=None, help="training seed (default: 1)")
    _json_option(parser)


def _train(verbs: Any) -> None:
    job = "tune one method on one series and keep the checkpoint in a run folder"
    parser = _verb(verbs, "train", job, "tunetrade train ecb:EURUSD --method lora --set training.steps=200", "train")
    parser.add_argument("source", help="ecb:PAIR or a file of bars")
    parser.add_argument("--method", default="lora", help="tuning method (default: lora)")
    parser.add_argument("--seed", type=int, default=1, help="training seed (default: 1)")
    parser.add_argument("--config", metavar="FILE", help="study file to take settings from")
    _source_options(parser)
    _study_options(parser, report=False)


def _forecast(verbs: Any) -> None:
    job = "forecast with a tuned model: its whole test part, or the bars after the latest close"
    parser = _verb(verbs, "forecast", job, "tunetrade forecast runs/demo/EURUSD-D1/lora/1 --latest", "forecast")
    parser.add_argument("run", help="run folder, such as runs/demo/EURUSD-D1/lora/1")
    parser.add_argument("--latest", action="store_true", help="only the forecast from the last bar of the source")
    parser.add_argument("--source", help="other bars to forecast --latest from, such as ecb-latest:EURUSD")
    _json_option(parser)


def _backtest(verbs: Any) -> None:
    job = "trade the forecasts of a run folder"
    parser = _verb(
        verbs, "backtest", job, "tunetrade backtest runs/demo/EURUSD-D1/lora/1 --set signal=threshold", "backtest"
    )
    parser.add_argument("run", help="run folder, such as runs/demo/EURUSD-D1/lora/1")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a trading rule, such as signal=threshold"
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help="where to write trades and equity (default: print figures only)"
    )
    _json_option(parser)


def _study(verbs: Any) -> None:
    job = "run series x methods x seeds into run folders and write the report"
    parser = _verb(verbs, "study", job, "tunetrade study studies/demo.toml --set training.steps=300", "study")
    parser.add_argument("file", help="study file, such as studies/demo.toml")
    _study_options(parser)


def _tune(verbs: Any) -> None:
    job = "give each method the same number of trials, chosen on validation only, and write the tuned study file"
    parser = _verb(verbs, "tune", job, "tunetrade tune studies/methods.toml --set tune.trials=4", "tune")
    parser.add_argument("file", help="study file, perhaps with a [tune] section, such as studies/lora-sweep.toml")
    parser.add_argument("--grid", action="store_true", help="try every combination of each method's space")
    parser.add_argument(
        "--final", action="store_true", help="then run the tuned study, three seeds a method, on the test part"
    )
    _study_options(parser)


def _optimize(verbs: Any) -> None:
    job = "search models and trading rules together for forecast skill and net Sharpe ratio, on validation only"
    example = "tunetrade optimize studies/optimize.toml --set optimize.trials=12"
    parser = _verb(verbs, "optimize", job, example, "optimize")
    parser.add_argument("file", help="study file with an [optimize] section, such as studies/optimize.toml")
    parser.add_argument("--final", action="store_true", help="then run the winner on the test part, once")
    _study_options(parser)


def _report(verbs: Any) -> None:
    job = "write the report of a study's run folders"
    parser = _verb(verbs, "report", job, "tunetrade report runs/demo --out reports/demo", "report")
    parser.add_argument("study", help="folder of a study's runs, such as runs/demo")
    parser.add_argument("--out", metavar="FOLDER", help="where to write (default: reports/<study>)")
    _json_option(parser)


def _compare(verbs: Any) -> None:
    job = "compare two runs, or two studies: differences of error, money and cost with tests, and what made them differ"
    example = "tunetrade compare runs/demo/EURUSD-D1/lora/1 runs/demo/EURUSD-D1/full/1 --out reports/lora-full"
    parser = _verb(verbs, "compare", job, example, "compare", "tunetrade.verbs_compare")
    parser.add_argument("a", metavar="A", help="run folder, or a study's folder such as runs/demo")
    parser.add_argument("b", metavar="B", help="another of the same kind; differences are B less A")
    parser.add_argument("--out", metavar="FOLDER", help="where compare.html and compare.json go (default: print only)")
    _json_option(parser)


def _tester(verbs: Any) -> None:
    job = "write a run's trades as MetaTrader's Strategy Tester reports them: tester.html and tester.csv"
    example = "tunetrade tester runs/demo/EURUSD-D1/lora/1"
    parser = _verb(verbs, "tester", job, example, "tester", "tunetrade.verbs_money")
    parser.add_argument("run", help="run folder, or one that `tunetrade backtest --out` wrote")
    _of_account(parser)
    parser.add_argument("--out", metavar="FOLDER", help="where to write (default: into the run folder)")
    _json_option(parser)


def _reconcile(verbs: Any) -> None:
    job = "compare a run's trades with a MetaTrader 5 report or history, and explain each difference"
    example = "tunetrade reconcile runs/demo/EURUSD-D1/lora/1 ReportTester.html"
    parser = _verb(verbs, "reconcile", job, example, "reconcile", "tunetrade.verbs_money")
    parser.add_argument("run", help="run folder, or one that `tunetrade backtest --out` wrote")
    parser.add_argument("export", help="what MetaTrader saved, in English: HTML, or its Deals or Positions as CSV")
    _of_account(parser)
    parser.add_argument(
        "--minutes", type=float, help="how far apart fills may be in time (default: half a bar, at most an hour)"
    )
    parser.add_argument("--points", type=float, default=1.0, help="how far apart prices may be, in points (default: 1)")
    parser.add_argument("--lots", type=float, default=1e-6, help="how far apart sizes may be (default: 0.000001)")
    parser.add_argument("--money", type=float, default=0.02, help="how far apart costs may be (default: 0.02)")
    parser.add_argument("--out", metavar="FILE", help="CSV file to write all differences into")
    _json_option(parser)


def _audit(verbs: Any) -> None:
    job = "prove on a run's own files that nothing looked ahead: cut data, fills, fits, splits, controls"
    example = "tunetrade audit runs/demo/EURUSD-D1/lora/1"
    parser = _verb(verbs, "audit", job, example, "audit", "tunetrade.verbs_audit")
    parser.add_argument("run", help="run folder, series or whole study, such as runs/demo")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="cutoffs recomputed on cut data (default: the study's audit.sample, 3)"
    )
    _json_option(parser)


def _robustness(verbs: Any) -> None:
    job = "try tuned models on prices gone wrong: crash, broken peg, dead feed, wrong unit, pair, timeframe, spread"
    parser = _verb(verbs, "robustness", job, "tunetrade robustness runs/demo", "robustness", "tunetrade.verbs_audit")
    parser.add_argument("run", help="run folder of a method, series or whole study, such as runs/demo")
    _json_option(parser)


def _of_account(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--symbol", help="symbol, where the run does not tell it or the broker names it otherwise")
    parser.add_argument(
        "--server-tz", metavar="ZONE", help="clock of MetaTrader's times (default: the run's broker.timezone, us-dst)"
    )


def _serve(verbs: Any) -> None:
    job = "stream live forecasts of tuned models to MetaTrader 5 and other clients"
    parser = _verb(verbs, "serve", job, "tunetrade serve runs/demo/EURUSD-D1/lora/1", "serve", "tunetrade.verbs_live")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder; the first of a series is what clients get")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=5757, help="port to listen on (default: 5757)")
    parser.add_argument(
        "--secret-file", metavar="FILE", help="file with the secret that clients prove to know (or TUNETRADE_SECRET)"
    )
    parser.add_argument(
        "--journal",
        metavar="FILE",
        help="SQLite file of bars, forecasts, acks and fills (default: TUNETRADE_JOURNAL or live/journal.sqlite)",
    )
    parser.add_argument(
        "--publish", type=int, metavar="PORT", help="repeat each forecast on a PUB socket of loopback, for Python"
    )
    curve = parser.add_argument_group("CURVE: a second port, encrypted, for Python clients with keys")
    curve.add_argument("--curve-key", metavar="FILE", help="the server's secret key, made by tunetrade curve-key")
    curve.add_argument("--curve-host", default="127.0.0.1", help="address of that port (default: 127.0.0.1)")
    curve.add_argument("--curve-port", type=int, default=5758, metavar="PORT", help="that port (default: 5758)")
    curve.add_argument(
        "--curve-clients", metavar="FILE", help="public keys that may connect, one a line (default: any key)"
    )
    parser.add_argument("--log-json", action="store_true", help="print events as lines of JSON instead of the table")


def _replay(verbs: Any) -> None:
    job = "replay a run through the live server and the Expert Advisor's own code, and compare with its backtest"
    example = "tunetrade replay runs/demo/EURUSD-D1/lora/1 --account hedging"
    parser = _verb(verbs, "replay", job, example, "replay", "tunetrade.verbs_live")
    parser.add_argument("run", help="run folder of a model, such as runs/demo/EURUSD-D1/lora/1")
    parser.add_argument(
        "--bars", metavar="SOURCE", help="other bars of the series: a file, or journal:EURUSD,H1 as serve recorded them"
    )
    parser.add_argument("--from", dest="first", metavar="DAY", help="first day (default: that of the first forecast)")
    parser.add_argument("--to", dest="last", metavar="DAY", help="last day (default: that of the last forecast)")
    parser.add_argument("--account", help="netting or hedging (default: broker.account of the study)")
    parser.add_argument(
        "--out", metavar="FILE", help="where the report goes, JSON (default: replay.json in the run folder)"
    )
    _json_option(parser)


def _export_tester(verbs: Any) -> None:
    job = "write a run's targets for MetaTrader's Strategy Tester, where the Expert Advisor reads them from a file"
    example = "tunetrade export-tester runs/hourly/EURUSD-H1/lora/1 --out EURUSD-H1.csv"
    parser = _verb(verbs, "export-tester", job, example, "export_tester", "tunetrade.verbs_live")
    parser.add_argument("run", help="run folder with forecasts")
    parser.add_argument("--out", metavar="FILE", help="file to write (default: <series>.csv in the run folder)")
    parser.add_argument(
        "--server-tz",
        metavar="ZONE",
        help="the broker's clock (default: the study's source.server_tz or broker.timezone)",
    )
    _json_option(parser)


def _curve_key(verbs: Any) -> None:
    job = "make a CURVE key: the secret one into a file for its owner alone, the public one on the screen"
    parser = _verb(verbs, "curve-key", job, "tunetrade curve-key server.key", "curve_key", "tunetrade.verbs_live")
    parser.add_argument("file", help="file for the secret key; it must not exist yet")


def _install_mt5(verbs: Any) -> None:
    job = "put the Expert Advisor's sources into a MetaTrader 5 data folder (File > Open Data Folder)"
    example = "tunetrade install-mt5 path/to/data-folder"
    parser = _verb(verbs, "install-mt5", job, example, "verb", "tunetrade.install_mt5")
    parser.add_argument("folder", metavar="DATA_FOLDER", help="the folder that has MQL5 in it")
    parser.add_argument("--force", action="store_true", help="replace files you have changed; copies stay as .bak")
    _json_option(parser)


def _export(verbs: Any) -> None:
    job = "write a tuned model for other programs: a Hugging Face folder, its PEFT adapter, or a state dict"
    parser = _verb(verbs, "export", job, "tunetrade export runs/demo/EURUSD-D1/lora/1 --out my-model", "export")
    parser.add_argument("run", help="run folder, such as runs/demo/EURUSD-D1/lora/1")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write; it must not exist yet")
    parser.add_argument(
        "--what",
        default="merged",
        choices=("merged", "adapter", "state-dict"),
        help="merged: a folder that transformers and --base read (default); adapter: the PEFT files alone; "
        "state-dict: a pickle for torch.load elsewhere, which tunetrade never reads",
    )
    _json_option(parser)


def _walk(verbs: Any) -> None:
    job = "print how each fold of a walk-forward run went"
    parser = _verb(verbs, "walk", job, "tunetrade walk runs/demo/EURUSD-D1/lora/1", "walk", "tunetrade.verbs_walk")
    parser.add_argument("run", help="run folder of a study with a [walk] section")
    _json_option(parser)


def _article(verbs: Any) -> None:
    job = "run the source articles' experiment again, as published and repaired, and recompute their figures"
    example = "tunetrade article --data ecb:NZDUSD --out reports/article"
    parser = _verb(verbs, "article", job, example, "article", "tunetrade.verbs_article")
    parser.add_argument(
        "--data", default="ecb:NZDUSD", metavar="SOURCE", help="2,500 closes or more (default: ecb:NZDUSD)"
    )
    parser.add_argument(
        "--base",
        default="own",
        metavar="NAME",
        help="gpt2, or a folder with its four files (docs/EXPORT.md); default: a small GPT-2 made here",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of training and draws (default: 1)")
    parser.add_argument("--quick", action="store_true", help="a few steps on a short series: shows that it works")
    parser.add_argument("--runs", default="runs", metavar="FOLDER", help="where models are kept (default: runs)")
    parser.add_argument(
        "--out", default="reports/article", metavar="FOLDER", help="where the report goes (default: reports/article)"
    )
    _json_option(parser)


def _doctor(verbs: Any) -> None:
    job = "say what is installed, how many threads there are, whether the base is found, and how much disk is free"
    parser = _verb(verbs, "doctor", job, "tunetrade doctor --live", "doctor")
    live = parser.add_argument_group("the live link")
    live.add_argument("--live", action="store_true", help="say where the link between server and terminal breaks")
    live.add_argument("--address", default="tcp://127.0.0.1:5757", help="of the server (default: tcp://127.0.0.1:5757)")
    live.add_argument("--secret-file", metavar="FILE", help="file with the server's secret (or TUNETRADE_SECRET)")
    live.add_argument(
        "--terminal", metavar="DATA_FOLDER", help="of a MetaTrader 5 on this machine, to see what its charts say"
    )
    live.add_argument("--server-key", default="", metavar="KEY", help="the server's public key, for its port for CURVE")
    live.add_argument("--curve-key", metavar="FILE", help="this client's secret key, made by tunetrade curve-key")
    live.add_argument("--journal", metavar="FILE", help="the server's journal, to see whether its bars are new")
    live.add_argument(
        "--calendar", default="fx-week", help="trading hours: fx-week (default), target or round-the-clock"
    )
    _json_option(parser)


def _study_options(parser: argparse.ArgumentParser, report: bool = True) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, such as training.steps=300"
    )
    parser.add_argument(
        "--base",
        dest="set",
        action="append",
        default=argparse.SUPPRESS,
        type=lambda name: f"base={json.dumps(name, ensure_ascii=False)}",
        metavar="NAME",
        help="base model: embedded, a folder, or a GPT-2 of the Hugging Face hub such as gpt2 (docs/EXPORT.md)",
    )
    parser.add_argument("--runs", default="runs", metavar="FOLDER", help="where run folders go (default: runs)")
    parser.add_argument(
        "--jobs", type=int, default=0, help="cells at once (default: one per core); results do not depend on it"
    )
    if report:
        parser.add_argument("--out", metavar="FOLDER", help="where the report goes (default: reports/<study>)")
    _json_option(parser)


def _source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server-tz",
        metavar="ZONE",
        help="clock of the file's stamps: us-dst (usual MT5 server), UTC, +02:00 or an IANA name",
    )
    parser.add_argument("--symbol", help="symbol of a file whose name does not tell it")
    parser.add_argument("--timeframe", help="timeframe of a file whose name does not tell it, such as H1")
    parser.add_argument("--calendar", help="trading hours: fx-week, target or round-the-clock")
    parser.add_argument("--digits", type=int, help="decimals of a price, when not those seen in the file")
    parser.add_argument(
        "--integer-points", action="store_true", default=None, help="prices are whole points; needs --digits"
    )


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON, for another program")


def emit_json(value: Any) -> None:
    """Print a result for another program."""
    from forecasting.files import plain

    print(json.dumps(plain(value), indent=2, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
