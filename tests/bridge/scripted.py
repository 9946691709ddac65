"""A market for the simulated terminal and a scripted server that speaks the protocol to the Expert Advisor."""

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from simulated import Journal, built, finished, peer

from bridge.terminal.build import EXPERT

HOUR = 3600
START = 1_704_164_400  # Tuesday, 2024-01-02 03:00 by the broker's clock, two hours ahead of UTC
OFFSET = 7200
ACK = '"type":"ack"'
EPOCH = 1_700_000_000_001


def bars(count: int, start: int = START) -> list[tuple[float, ...]]:
    """Hourly bars that rise by ten points and dip by thirty: time, open, high, low, close, spread in points."""
    rows = []
    for i in range(count):
        opens = 1.1 + 1e-4 * i
        closes = round(opens + 1e-4, 5)
        rows.append((start + HOUR * i, round(opens, 5), round(closes + 5e-5, 5), round(opens - 3e-4, 5), closes, 8))
    return rows


def close_ms(opens: int) -> int:
    return (opens - OFFSET + HOUR) * 1000


def market_file(path: Path, rows, warm: int, **settings) -> Path:
    lines = [f"{name} {value}" for name, value in settings.items() if not isinstance(value, list)]
    lines += [f"{name} {text}" for name, texts in settings.items() if isinstance(texts, list) for text in texts]
    lines += [f"warm {warm}", f"offset {OFFSET}"]
    lines += ["bar " + " ".join(repr(value) for value in row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@dataclass
class Script:
    """Answers as the protocol asks for, with one Target a bar; keeps all that the EA said.

    targets: fields of the forecast for the bar opened at that time, over those of a long position with a stop.
    spoil: changes a message of S on its way; may return several, or none.
    """

    rows: list
    targets: dict = field(default_factory=dict)
    default: dict = field(default_factory=dict)
    history: int = 3
    heartbeat_ms: int = 500
    secret: str = ""
    spoil: object = None
    heard: list = field(default_factory=list)
    epoch: int = EPOCH
    seq: int = 0
    newest: dict | None = None
    nonce: str = ""
    done: threading.Event = field(default_factory=threading.Event)

    def of(self, kind: str) -> list[dict]:
        return [message for message in self.heard if message["type"] == kind]

    @property
    def codes(self) -> list[str]:
        return [ack["code"] for ack in self.of("ack")]

    def work(self, router: zmq.Socket) -> None:
        """Serve until told to stop."""
        while not self.done.is_set():
            if not router.poll(20):
                continue
            identity, kind, body = router.recv_multipart()
            message = json.loads(body)
            assert message["type"] == kind.decode() and message["v"] == 1
            self.heard.append(message)
            for answer in self.answers(message):
                self.seq += answer["seq"]
                answer["seq"] = self.seq
                for sent in [answer] if self.spoil is None else self.spoil(answer):
                    router.send_multipart([identity, sent["type"].encode(), json.dumps(sent).encode()])

    def message(self, kind: str, re: int, /, step: int = 1, **fields) -> dict:
        head = {"v": 1, "type": kind, "epoch": self.epoch, "seq": step, "re": re, "ts_ms": int(time.time() * 1000)}
        return {**head, **fields}

    def answers(self, message: dict) -> list[dict]:
        kind, seq = message["type"], message["seq"]
        if kind == "hello":
            self.nonce = message["nonce"]
            if self.secret:
                return [self.message("challenge", seq, 0, nonce="ffeeddccbbaa99887766554433221100")]
            return [self.welcome(seq)]
        if kind == "proof":
            assert message["proof"] == self.proof("client")
            return [self.welcome(seq)]
        if kind == "bars" and message["more"]:
            need = {"unique_id": "EURUSD-H1", "have": len(message["closes"]), "need": self.history}
            return [self.message("need_bars", seq, **need)]
        if kind in ("bars", "bar"):
            self.newest = self.forecast(message["broker_time"])
            return [self.message("forecast", seq, **self.newest)]
        if kind == "resync":
            return [self.message("snapshot", seq, **self.newest)]
        if kind in ("ack", "exec"):
            return [self.message("ok", seq)]
        return [self.message("hb", seq)]

    def welcome(self, seq: int) -> dict:
        self.seq = 0
        fields = {
            "accepted": True, "reason": "", "unique_id": "EURUSD-H1", "model_id": "m", "model_sha": "ab", "horizon": 2,
            "history": self.history, "from_ms": 0, "heartbeat_ms": self.heartbeat_ms,
            "proof": self.proof("server") if self.secret else "",
        }  # fmt: skip
        return self.message("welcome", seq, **fields)

    def proof(self, side: str) -> str:
        text = f"tunetrade1|{side}|ffeeddccbbaa99887766554433221100|{self.nonce}|{self.secret}"
        return hashlib.sha256(text.encode()).hexdigest()

    def forecast(self, opens: int) -> dict:
        (row,) = [row for row in self.rows if row[0] == opens]
        steps = {key: [row[4], row[4]] for key in ("mean", "q05", "q10", "q25", "q50", "q75", "q90", "q95")}
        target = {
            "position": 1.0, "lots": 0.1, "stop": round(row[4] - 0.005, 5), "take_profit": None, "trailing": None,
            "resize": False, "expiry_ms": close_ms(opens) + 2 * HOUR * 1000, "reason": "long: because",
            "valid_until_ms": close_ms(opens) + HOUR * 1000, "close_ref": row[4], "bar_time_ms": close_ms(opens),
        }  # fmt: skip
        head = {"unique_id": "EURUSD-H1", "model_id": "m", "model_sha": "ab", "input_sha": "cd", "broker_time": opens}
        rest = {"tf_sec": HOUR, "issued_ms": 0, "horizon": 2, "p_up": [0.5, 0.6]}
        return {**head, **rest, **steps, **target, **self.default, **self.targets.get(opens, {})}


@dataclass(frozen=True)
class Outcome:
    script: Script
    journal: Journal

    @property
    def codes(self):
        return self.script.codes

    @property
    def texts(self):
        return [ack["text"] for ack in self.script.of("ack")]

    def deals(self):
        return [(deal["bar"], deal["side"], deal["lots"], round(deal["price"], 6)) for deal in self.journal.deals]


TRADING = {"InpDryRun": False, "InpClock": 2, "InpTimerMs": 2, "InpBackoffMs": 20}


def traded(
    folder: Path, script: Script, inputs=None, *, warm: int = 4, terminal=None, sanitize: bool = False, **market
) -> Outcome:
    """The Expert Advisor as it ships against the script, over bars whose first `warm` have closed before."""
    folder.mkdir(exist_ok=True)
    path = market_file(folder / "market", script.rows, warm, **{"close_at_end": 0, **market})
    where = {"MARKET": path, "FILES": folder, "WATCH": ACK, "BAR_MS": 3000, "RUN_MS": 15000, "LINGER_MS": 120}
    program = built(EXPERT, sanitize=sanitize)
    with peer(zmq.ROUTER, script.work, router_handover=1) as port:
        process = program.start({**TRADING, "InpPort": port, **(inputs or {})}, {**where, **(terminal or {})})
        try:
            journal = finished(process)
        finally:
            script.done.set()
    return Outcome(script, journal)
