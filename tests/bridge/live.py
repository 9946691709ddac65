"""The real server in a thread, the desk it serves, and forecasters that stall or fail."""

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field

from bridge.client import ClosedBar
from bridge.desk import Desk
from bridge.journal import Journal
from bridge.models import Inline
from bridge.server import Options, serve
from forecasting.bars import Bars
from forecasting.forecasts import Forecasts
from forecasting.windows import Contexts
from strategies.rules import TradingRules

SERIES = "EURUSD-D1"


@dataclass(frozen=True)
class Offline:
    """Real closes, a desk for them, and the last windows cut as the backtest cuts them."""

    bars: Bars
    rules: TradingRules
    desk: Desk
    closed: list[ClosedBar]
    windows: Contexts

    @property
    def count(self):
        return len(self.windows)

    def forecasts(self) -> Forecasts:
        """Of all windows at once."""
        return self.desk.forecaster.predict(self.windows).forecasts


@dataclass(frozen=True)
class Slow:
    """A forecaster that thinks until it is told to stop."""

    inner: object
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    sha = "slow"

    @property
    def warm_up(self):
        return self.inner.warm_up

    def predict(self, contexts, progress=None):
        self.begun.set()
        if not self.go_on.wait(5):
            raise TimeoutError
        return self.inner.predict(contexts, progress)


@dataclass(frozen=True)
class Broken:
    """A forecaster that fails."""

    warm_up: int
    sha = "broken"

    def predict(self, contexts, progress=None):
        raise RuntimeError("no weights")


@contextlib.contextmanager
def running(*desks, models=None, journal=":memory:", tell=None, **options):
    """The real server on a free port of loopback, in a thread of its own; gives its address."""
    ports, loop, main = [], asyncio.SelectorEventLoop(), None
    ready = threading.Event()

    def started(port):
        ports.append(port)
        ready.set()

    def work():
        nonlocal main
        with contextlib.closing(loop), Journal(journal) as kept, contextlib.suppress(asyncio.CancelledError):
            asked = Options(port=options.pop("port", 0), **options)
            main = loop.create_task(serve(models or Inline(desks), kept, asked, ready=started, tell=tell))
            loop.run_until_complete(main)

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"tcp://127.0.0.1:{ports[0]}"
    finally:
        begun = time.monotonic()
        loop.call_soon_threadsafe(main.cancel)
        thread.join(5)
        assert not thread.is_alive()
        assert time.monotonic() - begun < 2, "a server must stop at once"
