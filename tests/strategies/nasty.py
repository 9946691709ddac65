"""Accounts at the edge of what rules allow, and ledgers that add them up without the engines' formulas."""

import numpy as np

from strategies.contract import BrokerRules
from strategies.market import Market
from strategies.plan import Plan
from strategies.run import REASONS

HOUR = np.timedelta64(3_600_000_000_000, "ns")
START = np.datetime64("2021-03-01T00:00", "ns")
END, SIGNAL = REASONS.index("end of data"), REASONS.index("signal")


def nasty_account(seed):
    """Market, plan and broker: prices from 1e-6 to 1e6, jumps, spreads up to 0.9 of the price, one bar at the least,
    leverage 1 to 500, stop-outs from never to always, least sizes off the step, levels on the wrong side."""
    rng = np.random.default_rng(seed)
    count, price = int(rng.choice([1, 2, 3, 10, 40])), float(rng.choice([1e-6, 0.01, 1.2, 150.0, 1e6]))
    wild = 10 ** rng.uniform(-4, -0.8)
    market = nasty_market(rng, count, price, wild)
    broker = nasty_broker(rng, price * market.conversion[0])
    return market, nasty_plan(rng, market, broker, price * wild), broker


def nasty_market(rng, count, price, wild):
    """Each bar of one, three or six finer ones of three points of a path each; or close-only."""
    pieces = int(rng.choice([1, 1, 3, 6]))
    close_only = rng.random() < 0.15
    moves = rng.normal(0, wild / np.sqrt(pieces * 3), count * pieces * 3)
    moves[rng.random(len(moves)) < 0.02] *= rng.choice([1, 10])
    path = price * np.exp(np.cumsum(moves)).reshape(count, pieces, 3)
    close = path[:, -1, 2]
    first, high, low = (close, close, close) if close_only else (path[:, 0, 0], path.max((1, 2)), path.min((1, 2)))
    finer = (path[:, :, 0].ravel(), path.max(2).ravel(), path.min(2).ravel())
    spread = np.where(rng.random(count) < 0.3, 0, rng.uniform(0, 1, count) * price * wild * rng.choice([0, 0.001, 0.5]))
    if rng.random() < 0.1:
        spread = rng.uniform(0, 0.9, count) * low.min()
    kind = rng.choice(["same", "other", "own"], p=[0.3, 0.4, 0.3])
    rates = {"same": np.ones(count), "other": 10 ** rng.uniform(-2, 2) * np.exp(np.cumsum(rng.normal(0, 0.02, count)))}
    return Market(
        times=START + HOUR * np.arange(1, count + 1),
        open=first,
        high=high,
        low=low,
        close=close,
        spread=spread,
        slippage=rng.uniform(0, 1, count) * low.min() * min(wild, 0.3) * rng.choice([0, 0.3, 3]),
        nights=rng.choice([0, 0, 1, 3, 7], count) * (np.arange(count) > 0),
        nights_end=int(rng.choice([0, 1, 3])),
        conversion=rates.get(kind, 1 / close),
        finer=np.array([close] * 3 if close_only else finer),
        begin=np.arange(count + 1) * (1 if close_only else pieces),
        point=price * 1e-5,
        close_only=close_only,
    )


def nasty_broker(rng, price):
    """Rules whose deposit carries from less than one step to ten thousand; price in account currency."""
    leverage, step = float(rng.choice([1, 30, 500])), float(rng.choice([0.01, 0.1, 1e-5, 0.03]))
    units = float(rng.choice([1, 100, 1e5, 1e7]))
    return BrokerRules(
        deposit=units * step * price / leverage * 10 ** rng.uniform(-0.5, 4),
        account=str(rng.choice(["netting", "hedging"])),
        leverage=leverage,
        stop_out=float(rng.choice([0, 0.5, 1.0, 1.5, 5])),
        margin_call=float(rng.choice([0, 1, 3])),
        commission_per_lot=float(rng.choice([0, 1e-5, 1e-3])) * units * price,
        swap_long=float(rng.choice([0, 30, -30])),
        swap_short=float(rng.choice([0, 30, -30])),
        lot_units=units,
        lot_step=step,
        lot_min=step * float(rng.choice([0.4, 1, 2.5, 7])),
        lot_max=step * float(rng.choice([7, 50, 1e6])),
    )


def nasty_plan(rng, market, broker, typical):
    """Sides that last, stops and profits near and far, one in five of some plans on the wrong side."""
    count = len(market)
    side = np.repeat(rng.integers(-1, 2, count), int(rng.choice([1, 3, 20])))[:count]
    reach = typical * 10 ** rng.uniform(-2, 1, (3, count))
    way = side * np.where(rng.random((2, count)) < rng.choice([0, 0.2]), -1, 1)
    some = rng.random((3, count)) < rng.choice([0, 0, 0.7, 1.0], (3, 1))
    now = np.where(side > 0, market.close, market.close + market.spread)
    stop, profit, trailing = np.where(some, [now - way[0] * reach[0], now + way[1] * reach[1], reach[2]], np.nan)
    lots = 10 ** rng.uniform(0, 2, count) * broker.lot_step
    every = int(rng.choice([1, 3, 10]))
    by_equity = 10 ** rng.uniform(-1, 2.5) * broker.lot_step / broker.deposit if rng.random() < 0.4 else 0.0
    return Plan(
        side=side.astype(np.int8),
        lots=(lots if rng.random() < 0.7 else np.full(count, lots[0])) * (rng.random() < 0.8),
        lots_per_money=np.full(count, by_equity),
        stop=stop,
        take_profit=profit,
        trailing=trailing,
        entry=rng.random(count) < rng.choice([0.6, 1.0]),
        decided=np.arange(count) // every * every,
        resize=bool(rng.random() < 0.6),
        reasons=("",) * count,
    )


def passed_through(market, broker, run):
    """Money that went through an account, against which rounding is measured."""
    prices = np.maximum(np.abs(run.trades["entry_price"]), np.abs(run.trades["exit_price"]))
    return broker.deposit + float(np.sum(np.abs(run.trades["units"]) * prices) * market.conversion.max())


def exit_quote(market, bar, side):
    """What a position closes at, at a bar's close."""
    if market.close_only:
        return market.close[bar] - side * market.spread[bar] / 2
    return market.close[bar] + (side < 0) * market.spread[bar]


def equity_of_tickets(market, broker, run):
    """Deposit, closed trades and open results at every close, from the trades alone: of tickets, not averages."""
    found = []
    for bar in range(len(market)):
        money = broker.deposit
        for trade in run.trades:
            if trade.exit_bar <= bar:
                money += trade.result - trade.commission + trade.swap
            elif trade.entry_bar <= bar:
                side = np.sign(trade.units)
                points = broker.swap_long if side > 0 else broker.swap_short
                money += trade.units * (exit_quote(market, bar, side) - trade.entry_price) * market.conversion[bar]
                money -= abs(trade.units) * broker.commission_per_unit
                for night in range(trade.entry_bar + 1, bar + 1):
                    paid = market.nights[night] * points * market.point * market.conversion[night - 1]
                    money += abs(trade.units) * paid
        found.append(money)
    return np.array(found)


def equity_of_one_position(market, broker, run):
    """Equity at every close of a netting account, from what was held, at which average price, bar by bar.

    Of the run it takes positions and the prices at which parts were closed. What was opened is what is missing between
    them; it is paid at the open, and averaged here.
    """
    fee, step = broker.commission_per_unit, broker.lot_step * broker.lot_units
    money, held, average, found = broker.deposit, 0.0, 0.0, []

    def swap(nights, rate):
        points = broker.swap_long if held > 0 else broker.swap_short
        return abs(held) * nights * points * market.point * rate

    def closing(trade, rate):
        return trade.units * (trade.exit_price - average) * rate - abs(trade.units) * fee

    for bar in range(len(market)):
        rate = market.conversion[bar - 1]
        closed = [trade for trade in run.trades if trade.exit_bar == bar]
        money += swap(market.nights[bar], rate)
        entered = {np.sign(run.position[bar]), *(np.sign(trade.units) for trade in closed if trade.entry_bar == bar)}
        # A stop that the open lies beyond comes before the order that opens the other side there.
        first = [t for t in closed if t.why == SIGNAL or (t.entry_bar < bar and -np.sign(t.units) in entered)]
        for trade in first:
            money += closing(trade, rate)
            held -= trade.units
        within = [trade for trade in closed if trade not in first]
        opened = round((run.position[bar] - held + sum(trade.units for trade in within)) / step) * step
        if opened:
            side, spread = np.sign(opened), market.spread[bar - 1]
            paid = spread / 2 if market.close_only else spread * (side > 0)
            price = market.open[bar] + side * (paid + market.slippage[bar])
            average = (held * average + opened * price) / (held + opened)
            held += opened
            money -= abs(opened) * fee
        for trade in within:
            if trade.why == END:
                money += swap(market.nights_end, rate)
                rate = market.conversion[bar]
            money += closing(trade, rate)
            held -= trade.units
        held = round(held / step) * step
        quote = exit_quote(market, bar, np.sign(held))
        found.append(money + held * (quote - average) * market.conversion[bar])
    return np.array(found)
