// A market and an account, after docs/EXECUTION.md: bars hold bids, a purchase pays the spread, what a bar's open lies
// beyond acts before the program hears of the bar, the rest is gone through pessimistically. Sums are done in the order
// of strategies/account.py, so that prices agree to the bit. What a broker may answer against all rules (a requote, a
// partial fill, silence, books that lag behind) is scripted. Not simulated: pending orders, ticks.
#pragma once
#include "platform.hpp"
#include <cmath>
#include <fstream>
#include <sstream>

namespace mql {
enum ENUM_TIMEFRAMES { PERIOD_CURRENT = 0, PERIOD_M1 = 1, PERIOD_M5 = 5, PERIOD_M15 = 15, PERIOD_M30 = 30, PERIOD_H1 = 16385,
                       PERIOD_H4 = 16388, PERIOD_D1 = 16408, PERIOD_W1 = 32769 };
inline int PeriodSeconds(ENUM_TIMEFRAMES p);
enum ENUM_ORDER_TYPE { ORDER_TYPE_BUY = 0, ORDER_TYPE_SELL = 1 };
enum ENUM_TRADE_REQUEST_ACTIONS { TRADE_ACTION_DEAL = 1, TRADE_ACTION_SLTP = 6 };
enum ENUM_ORDER_TYPE_FILLING { ORDER_FILLING_FOK = 0, ORDER_FILLING_IOC = 1, ORDER_FILLING_RETURN = 2 };
enum ENUM_ORDER_TYPE_TIME { ORDER_TIME_GTC = 0 };
enum { SYMBOL_FILLING_FOK = 1, SYMBOL_FILLING_IOC = 2 };
enum ENUM_SYMBOL_TRADE_EXECUTION { SYMBOL_TRADE_EXECUTION_REQUEST = 0, SYMBOL_TRADE_EXECUTION_INSTANT = 1, SYMBOL_TRADE_EXECUTION_MARKET = 2, SYMBOL_TRADE_EXECUTION_EXCHANGE = 3 };
enum ENUM_SYMBOL_TRADE_MODE { SYMBOL_TRADE_MODE_DISABLED = 0, SYMBOL_TRADE_MODE_LONGONLY = 1, SYMBOL_TRADE_MODE_SHORTONLY = 2, SYMBOL_TRADE_MODE_CLOSEONLY = 3, SYMBOL_TRADE_MODE_FULL = 4 };
enum ENUM_ACCOUNT_MARGIN_MODE { ACCOUNT_MARGIN_MODE_RETAIL_NETTING = 0, ACCOUNT_MARGIN_MODE_EXCHANGE = 1, ACCOUNT_MARGIN_MODE_RETAIL_HEDGING = 2 };
enum ENUM_ACCOUNT_TRADE_MODE { ACCOUNT_TRADE_MODE_DEMO = 0, ACCOUNT_TRADE_MODE_CONTEST = 1, ACCOUNT_TRADE_MODE_REAL = 2 };
enum ENUM_POSITION_TYPE { POSITION_TYPE_BUY = 0, POSITION_TYPE_SELL = 1 };
enum ENUM_DEAL_TYPE { DEAL_TYPE_BUY = 0, DEAL_TYPE_SELL = 1, DEAL_TYPE_BALANCE = 2 };
enum ENUM_DEAL_ENTRY { DEAL_ENTRY_IN = 0, DEAL_ENTRY_OUT = 1, DEAL_ENTRY_INOUT = 2, DEAL_ENTRY_OUT_BY = 3 };
enum ENUM_DEAL_REASON { DEAL_REASON_CLIENT = 0, DEAL_REASON_EXPERT = 3, DEAL_REASON_SL = 4, DEAL_REASON_TP = 5, DEAL_REASON_SO = 6 };
enum ENUM_TRADE_TRANSACTION_TYPE { TRADE_TRANSACTION_ORDER_ADD = 0, TRADE_TRANSACTION_DEAL_ADD = 6, TRADE_TRANSACTION_REQUEST = 10 };
enum { TRADE_RETCODE_REQUOTE = 10004, TRADE_RETCODE_PLACED = 10008, TRADE_RETCODE_DONE = 10009, TRADE_RETCODE_DONE_PARTIAL = 10010,
       TRADE_RETCODE_ERROR = 10011, TRADE_RETCODE_TIMEOUT = 10012, TRADE_RETCODE_INVALID = 10013, TRADE_RETCODE_INVALID_VOLUME = 10014,
       TRADE_RETCODE_INVALID_STOPS = 10016, TRADE_RETCODE_TRADE_DISABLED = 10017, TRADE_RETCODE_NO_MONEY = 10019,
       TRADE_RETCODE_PRICE_CHANGED = 10020, TRADE_RETCODE_NO_CHANGES = 10025, TRADE_RETCODE_CLIENT_DISABLES_AT = 10027,
       TRADE_RETCODE_INVALID_FILL = 10030, TRADE_RETCODE_CONNECTION = 10031, TRADE_RETCODE_POSITION_CLOSED = 10036 };

struct MqlRates { datetime time; double open, high, low, close; long tick_volume; int spread; long real_volume; MQL_STRUCT(MqlRates) };
struct MqlTick { datetime time; double bid, ask, last; ulong volume; long time_msc; uint flags; double volume_real; MQL_STRUCT(MqlTick) };
struct MqlTradeRequest {
    ENUM_TRADE_REQUEST_ACTIONS action; ulong magic, order; string symbol; double volume, price, stoplimit, sl, tp; ulong deviation;
    ENUM_ORDER_TYPE type; ENUM_ORDER_TYPE_FILLING type_filling; ENUM_ORDER_TYPE_TIME type_time; datetime expiration; string comment;
    ulong position, position_by;
    MQL_STRUCT(MqlTradeRequest)
};
struct MqlTradeResult {
    uint retcode; ulong deal, order; double volume, price, bid, ask; string comment; uint request_id; int retcode_external;
    MQL_STRUCT(MqlTradeResult)
};
struct MqlTradeTransaction {
    ulong deal, order; string symbol; ENUM_TRADE_TRANSACTION_TYPE type; ENUM_ORDER_TYPE order_type; ENUM_DEAL_TYPE deal_type;
    double price, price_sl, price_tp, volume; ulong position;
    MQL_STRUCT(MqlTradeTransaction)
};

// ---- the market's state

struct Piece { double open, high, low; };           // a bar within a bar
struct Bar { long time; double open, high, low, close, spread, conversion, slippage; long nights, volume; std::vector<Piece> finer; };
struct Position { ulong ticket; int side; double lots, price, sl, tp, margin, commission, swap; ulong magic; long time; string comment; };
struct Deal { ulong ticket, order, position; long time; int side; ENUM_DEAL_ENTRY entry; double lots, price, commission, swap, profit; ulong magic; ENUM_DEAL_REASON reason; string comment; };
struct Answer { uint code; double share; long late_ms; };             // to an order; the share of it done, and when
struct Late { ulong due, order; bool active; MqlTradeRequest request; }; // done at that time; active: in the list of orders till then
struct Market {
    std::string symbol = "EURUSD", server = "Simulated-Demo", currency = "USD";
    long digits = 5, warm = 0, period = 16385, hedging = 1, demo = 1, filling = 3, execution = 2, trade_mode = 4, stops_level = 0,
         trade_allowed = 1, offset = 7200, close_at_end = 1, close_only = 0, in_price = 0, nights_end = 0, prelude = 0, login = 1,
         connect_ms = 0, sync_ms = 0;
    double point = 1e-5, contract = 100000, lot_min = 0.01, lot_step = 0.01, lot_max = 100, balance = 10000, commission = 0,
           leverage = 30, swap_long = 0, swap_short = 0, stop_out = 0.5;
    std::vector<Bar> bars;
    std::vector<std::pair<long, long>> zones;      // broker's time from which an offset to UTC holds, s
    int now = -1;                                  // the bar that is forming
    bool closing = false;                          // its last tick has come
    double shown = 0, spread = 0, conversion = 1, slippage = 0;
    std::vector<Position> positions;
    std::vector<Deal> deals;
    ulong next_ticket = 1;
    std::vector<Answer> answers;
    std::vector<Late> late;
    std::vector<ulong> news;                       // deals the program has not been told of yet
    double left_at(double price, int side) const { return price - side * (close_only ? spread / 2 : side > 0 ? 0.0 : spread); }
    double exit_price(int side) const { return left_at(shown, side); }
    double entry_price(int side) const { return shown + side * ((close_only ? spread / 2 : side > 0 ? spread : 0.0) + slippage); }
    double bid() const { return exit_price(1); }
    double ask() const { return exit_price(-1); }
    double money_of(const Position &p, double at) const { return p.side * (at - p.price) * p.lots * contract * conversion; }
    double floating() const { double m = 0; for (auto &p : positions) m += money_of(p, exit_price(p.side)) + p.swap; return m; }
    double margin() const { double m = 0; for (auto &p : positions) m += p.margin; return m; }
};
inline Market market;
inline void (*booked)() = nullptr;                 // told of every change of the account

inline void load_market(const std::string &path) {
    std::ifstream in(path);
    if (!in) throw Critical{"market file " + path};
    Market &m = market;
    std::map<std::string, long *> whole{{"digits", &m.digits}, {"warm", &m.warm}, {"period", &m.period}, {"hedging", &m.hedging}, {"demo", &m.demo},
        {"filling", &m.filling}, {"execution", &m.execution}, {"trade_mode", &m.trade_mode}, {"stops_level", &m.stops_level},
        {"trade_allowed", &m.trade_allowed}, {"offset", &m.offset}, {"close_at_end", &m.close_at_end}, {"login", &m.login}, {"connect_ms", &m.connect_ms}, {"sync_ms", &m.sync_ms},
        {"close_only", &m.close_only}, {"in_price", &m.in_price}, {"nights_end", &m.nights_end}, {"prelude", &m.prelude}};
    std::map<std::string, double *> real{{"point", &m.point}, {"contract", &m.contract}, {"lot_min", &m.lot_min}, {"lot_step", &m.lot_step},
        {"lot_max", &m.lot_max}, {"balance", &m.balance}, {"commission", &m.commission}, {"leverage", &m.leverage},
        {"swap_long", &m.swap_long}, {"swap_short", &m.swap_short}, {"stop_out", &m.stop_out}};
    std::map<std::string, std::string *> text{{"symbol", &m.symbol}, {"server", &m.server}, {"currency", &m.currency}};
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::string key;
        words >> key;
        if (key == "bar") {
            Bar b{0, 0, 0, 0, 0, 0, 1, 0, 0, 1, {}};
            words >> b.time >> b.open >> b.high >> b.low >> b.close >> b.spread;
            if (!words) throw Critical{"bar: " + line};
            if (!(words >> b.conversion)) b.conversion = 1;
            else if (!(words >> b.slippage)) b.slippage = 0;
            else if (!(words >> b.nights)) b.nights = 0;
            m.bars.push_back(b);
        } else if (key == "fine") {                // bars within the bar before this line
            Piece p{0, 0, 0};
            words >> p.open >> p.high >> p.low;
            if (!words || m.bars.empty()) throw Critical{"fine: " + line};
            m.bars.back().finer.push_back(p);
        } else if (key == "zone") {
            long from = 0, offset = 0;
            words >> from >> offset;
            m.zones.push_back({from, offset});
        } else if (key == "held") {                // a position from before, with the program's magic or another's
            Position p{m.next_ticket++, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, {}};
            words >> p.side >> p.lots >> p.price >> p.magic;
            m.positions.push_back(p);
        } else if (key == "answer") {
            Answer a{0, 0, 0};
            words >> a.code;
            if (!words) throw Critical{"answer: " + line};
            if (!(words >> a.share)) a.share = a.code == TRADE_RETCODE_DONE || a.code == TRADE_RETCODE_PLACED;
            else if (!(words >> a.late_ms)) a.late_ms = 0;
            m.answers.push_back(a);
        } else if (whole.count(key)) words >> *whole[key];
        else if (real.count(key)) words >> *real[key];
        else if (text.count(key)) words >> *text[key];
        else if (!key.empty()) throw Critical{"unknown setting of the market: " + key};
    }
    broker_offset = m.offset;
    if (m.warm < 1 || m.warm >= (long)m.bars.size()) throw Critical{"warm must leave bars to replay"};
    for (auto &b : m.bars) {
        if (!m.in_price) b.spread *= m.point, b.slippage *= m.point;
        if (b.finer.empty()) b.finer.push_back({b.open, b.high, b.low});
    }
    for (auto &p : m.positions) p.margin = p.lots * m.contract * p.price / m.leverage;
}
inline void set_clock(const Bar &b) {
    tick_time = b.time;
    tick_micros = micros();
    for (auto &z : market.zones) if (z.first <= b.time) broker_offset = z.second;
}
// The last tick of a bar: its close, with the bar's own spread and conversion.
inline void last_tick(int i) {
    Market &m = market;
    const Bar &b = m.bars[(size_t)i];
    m.now = i;
    m.shown = b.close;
    m.spread = b.spread;
    m.conversion = b.conversion;
    m.closing = true;
}

inline std::string number(double x) { char b[40]; snprintf(b, sizeof b, "%.17g", x); return b; }
inline ulong book(const Deal &d) {
    Market &m = market;
    m.deals.push_back(d);
    m.news.push_back(d.ticket);
    m.balance += d.profit + d.commission + d.swap;
    journal("deal", "{\"deal\":" + std::to_string(d.ticket) + ",\"position\":" + std::to_string(d.position) + ",\"time\":" + std::to_string(d.time) +
        ",\"side\":" + std::to_string(d.side) + ",\"entry\":" + std::to_string((int)d.entry) + ",\"lots\":" + number(d.lots) + ",\"price\":" + number(d.price) +
        ",\"commission\":" + number(d.commission) + ",\"swap\":" + number(d.swap) + ",\"profit\":" + number(d.profit) + ",\"reason\":" + std::to_string((int)d.reason) +
        ",\"magic\":" + std::to_string(d.magic) + ",\"bar\":" + std::to_string(m.now) + "}");
    if (booked) booked();
    return d.ticket;
}
inline double tidy(double lots) { return std::round(lots * 1e8) / 1e8; }
inline ulong close_part(size_t i, double lots, double price, ENUM_DEAL_REASON reason, ulong order = 0) {
    Market &m = market;
    Position p = m.positions[i];
    Position part = p, &left = m.positions[i];
    part.lots = lots;
    double profit = m.money_of(part, price), share = lots / p.lots, swap = p.swap * share;
    left.lots = tidy(p.lots - lots);
    left.margin -= p.margin * share;
    left.commission -= p.commission * share;
    left.swap -= swap;
    if (left.lots <= 0) m.positions.erase(m.positions.begin() + (long)i);
    ulong t = m.next_ticket++;
    return book({t, order ? order : t, p.ticket, tick_time, -p.side, DEAL_ENTRY_OUT, lots, price, -m.commission * lots, swap, profit, p.magic, reason, p.comment});
}
inline Position opened(ulong ticket, int side, double lots, double price, double sl, double tp, ulong magic, const string &comment) {
    Market &m = market;
    double margin = lots * m.contract * price * m.conversion / m.leverage;
    return {ticket, side, lots, price, sl, tp, margin, m.commission * lots, 0, magic, tick_time, comment};
}
inline void pay_swap(long nights, double conversion) {
    Market &m = market;
    for (auto &p : m.positions) p.swap += p.lots * m.contract * (double)nights * (p.side > 0 ? m.swap_long : m.swap_short) * m.point * conversion;
}

// ---- what happens within a bar, a side at a time

inline void take_profits(int side, double best) {
    for (;;) {
        auto &all = market.positions;
        size_t hit = all.size();
        for (size_t i = 0; i < all.size(); i++)
            if (all[i].side == side && all[i].tp > 0 && side * (best - all[i].tp) >= 0 && (hit == all.size() || side * (all[i].tp - all[hit].tp) < 0)) hit = i;
        if (hit == all.size()) return;
        close_part(hit, all[hit].lots, all[hit].tp, DEAL_REASON_TP);
    }
}
// Exit price at which equity is stop_out x margin; NaN where positions of both sides are held.
inline double stop_out_price() {
    Market &m = market;
    double units = 0, worth = 0, margins = 0, swaps = 0;
    for (auto &p : m.positions) {
        if (p.side != m.positions[0].side) return NAN;
        double u = p.side * p.lots * m.contract;
        units += u; worth += u * p.price; margins += p.margin; swaps += p.swap;
    }
    return (m.stop_out * margins - m.balance - swaps + m.conversion * worth) / (m.conversion * units);
}
inline void stop_losses(int side, double first, double worst) {
    for (;;) {
        Market &m = market;
        auto &all = m.positions;
        size_t hit = all.size();
        for (size_t i = 0; i < all.size(); i++)
            if (all[i].side == side && all[i].sl > 0 && (hit == all.size() || side * (all[i].sl - all[hit].sl) > 0)) hit = i;
        double out = all.empty() || all[0].side != side ? NAN : stop_out_price(), level = hit < all.size() ? all[hit].sl : NAN;
        ENUM_DEAL_REASON why = DEAL_REASON_SL;
        if (!std::isnan(out) && !(side * level >= side * out)) { level = out; why = DEAL_REASON_SO; }
        if (std::isnan(level) || side * (worst - level) > 0) return;
        double fill = side * std::min(side * first, side * level);
        if (why == DEAL_REASON_SO) {
            auto result = [&](const Position &p) { return m.money_of(p, fill) - p.commission + p.swap; };
            hit = 0;
            for (size_t i = 1; i < all.size(); i++) if (result(all[i]) < result(all[hit])) hit = i;
        }
        close_part(hit, all[hit].lots, fill - side * m.slippage, why);
    }
}
inline void live_through(const Piece &p) {
    Market &m = market;
    for (int side = 1; side >= -1; side -= 2) {
        double first = m.left_at(p.open, side), worst = m.left_at(side > 0 ? p.low : p.high, side), best = m.left_at(side > 0 ? p.high : p.low, side);
        take_profits(side, first);
        stop_losses(side, first, worst);
        take_profits(side, best);
    }
}
// The first tick of a bar: its open, with the spread and conversion known from the bar before.
inline void open_bar(int i) {
    Market &m = market;
    const Bar &b = m.bars[(size_t)i], &before = m.bars[(size_t)i - 1];
    m.now = i;
    m.closing = false;
    m.shown = b.open;
    m.spread = before.spread;
    m.conversion = before.conversion;
    m.slippage = b.slippage;
    set_clock(b);
    if (b.nights) pay_swap(b.nights, m.conversion);
    live_through({b.open, b.open, b.open});
}

// Stops of the bar that is forming, then its last tick.
inline void close_bar() {
    for (auto &piece : market.bars[(size_t)market.now].finer) live_through(piece);
    last_tick(market.now);
}
inline void close_everything() {
    Market &m = market;
    pay_swap(m.nights_end, m.bars[(size_t)std::max(m.now - 1, 0)].conversion);
    while (!m.positions.empty()) close_part(0, m.positions[0].lots, m.exit_price(m.positions[0].side), DEAL_REASON_CLIENT);
}

// ---- trading functions

inline uint refuse(MqlTradeResult &r, uint code) { r.retcode = code; return code; }
inline uint check_stops(int side, double sl, double tp) {
    Market &m = market;
    double x = m.exit_price(side), least = (double)m.stops_level * m.point;
    if (sl > 0 && side * (x - sl) <= least - 1e-12) return TRADE_RETCODE_INVALID_STOPS;
    if (sl > 0 && side * (x - sl) <= 0) return TRADE_RETCODE_INVALID_STOPS;
    if (tp > 0 && (side * (tp - x) <= least - 1e-12 || side * (tp - x) <= 0)) return TRADE_RETCODE_INVALID_STOPS;
    return 0;
}
inline size_t position_at(ulong ticket) {
    for (size_t i = 0; i < market.positions.size(); i++) if (market.positions[i].ticket == ticket) return i;
    return (size_t)-1;
}
// order: its number where it has one already, which is that of its deal else.
inline uint deal_request(const MqlTradeRequest &q, MqlTradeResult &r, ulong order = 0) {
    Market &m = market;
    auto told = [&](ulong deal) { r.deal = deal; r.order = order ? order : deal; };
    int side = q.type == ORDER_TYPE_BUY ? 1 : -1;
    double steps = q.volume / m.lot_step;
    if (q.volume <= 0 || q.volume > m.lot_max + 1e-9 || std::fabs(steps - std::round(steps)) > 1e-6) return TRADE_RETCODE_INVALID_VOLUME;
    if (q.type_filling == ORDER_FILLING_RETURN ? m.execution == 2 : !(m.filling & (q.type_filling == ORDER_FILLING_FOK ? 1 : 2))) return TRADE_RETCODE_INVALID_FILL;
    double lots = tidy(q.volume), price = m.entry_price(side);
    r.price = price;
    r.volume = lots;
    size_t held = q.position ? position_at(q.position) : (size_t)-1;
    if (q.position && held == (size_t)-1) return TRADE_RETCODE_POSITION_CLOSED;
    if (!m.hedging && !m.positions.empty()) held = 0;
    if (held != (size_t)-1 && m.positions[held].side == -side) {
        double closing = std::min(lots, m.positions[held].lots), left = tidy(lots - closing);
        price = m.exit_price(-side) + side * m.slippage;
        r.price = price;
        if (m.hedging && left > 0) return TRADE_RETCODE_INVALID_VOLUME;
        ulong ticket = m.positions[held].ticket;
        if (left <= 0) { told(close_part(held, closing, price, DEAL_REASON_EXPERT, order)); return TRADE_RETCODE_DONE; }
        // a reversal is one deal: the close and the new position share it
        Position old = m.positions[held];
        double profit = m.money_of(old, price);
        Position turned = opened(ticket, side, left, price, q.sl, q.tp, q.magic, q.comment);
        if (uint bad = check_stops(side, q.sl, q.tp)) return bad;
        if (m.balance + profit + old.swap - m.commission * lots - turned.margin < 0) return TRADE_RETCODE_NO_MONEY;
        m.positions[held] = turned;
        ulong t = m.next_ticket++;
        told(book({t, order ? order : t, ticket, tick_time, side, DEAL_ENTRY_INOUT, lots, price, -m.commission * lots, old.swap, profit, q.magic, DEAL_REASON_EXPERT, q.comment}));
        return TRADE_RETCODE_DONE;
    }
    if (lots < m.lot_min - 1e-9) return TRADE_RETCODE_INVALID_VOLUME;
    if (uint bad = check_stops(side, q.sl, q.tp)) return bad;
    ulong t = m.next_ticket, position = order ? order : t;
    Position fresh = opened(position, side, lots, price, q.sl, q.tp, q.magic, q.comment);
    if (m.balance + m.floating() - m.margin() - fresh.margin - fresh.commission < 0) return TRADE_RETCODE_NO_MONEY;
    m.next_ticket++;
    if (!m.hedging && !m.positions.empty()) {
        Position &p = m.positions[0];
        position = p.ticket;
        p.price = (p.price * p.lots + price * lots) / (p.lots + lots);
        p.lots = tidy(p.lots + lots);
        p.margin += fresh.margin;
        p.commission += fresh.commission;
        if (q.sl > 0) p.sl = q.sl;
        if (q.tp > 0) p.tp = q.tp;
    } else m.positions.push_back(fresh);
    told(book({t, order ? order : t, position, tick_time, side, DEAL_ENTRY_IN, lots, price, -m.commission * lots, 0, 0, q.magic, DEAL_REASON_EXPERT, q.comment}));
    return TRADE_RETCODE_DONE;
}
inline uint executed(const MqlTradeRequest &q, MqlTradeResult &r, ulong order = 0) {
    uint code = refuse(r, deal_request(q, r, order));
    if (code != TRADE_RETCODE_DONE) journal("refused", std::to_string(code) + " " + number(q.volume));
    return code;
}
// The next answer of the script, and so much of the order as it says; a refusal tells nothing of what was done.
inline bool scripted(const MqlTradeRequest &q, MqlTradeResult &r) {
    Market &m = market;
    Answer said = m.answers.front();
    m.answers.erase(m.answers.begin());
    journal("answered", std::to_string(said.code) + " " + number(q.volume));
    MqlTradeRequest part = q;
    part.volume = tidy(std::floor(q.volume * said.share / m.lot_step + 1e-9) * m.lot_step);
    if (part.volume > 0 && said.late_ms) {
        r.order = m.next_ticket++;
        r.volume = part.volume;
        m.late.push_back({micros() + 1000ul * (ulong)said.late_ms, r.order, said.code == TRADE_RETCODE_PLACED, part});
    } else if (part.volume > 0 && executed(part, r) != TRADE_RETCODE_DONE) return false;
    bool taken = said.code == TRADE_RETCODE_DONE || said.code == TRADE_RETCODE_PLACED || said.code == TRADE_RETCODE_DONE_PARTIAL;
    if (!taken) r = MqlTradeResult{};
    refuse(r, said.code);
    return taken;
}
inline void do_what_is_late() {
    auto &all = market.late;
    while (!all.empty() && all.front().due <= micros()) {
        Late one = all.front();
        all.erase(all.begin());
        MqlTradeResult unheard{};
        executed(one.request, unheard, one.order);
    }
}
inline bool OrderSelect(ulong order) {
    for (auto &one : market.late) if (one.active && one.order == order) return true;
    return false;
}
inline bool OrderSend(const MqlTradeRequest &q, MqlTradeResult &r) {
    Market &m = market;
    r = MqlTradeResult{};
    if (!m.trade_allowed) return refuse(r, TRADE_RETCODE_CLIENT_DISABLES_AT) == 0;
    if (m.now < 0 || narrow(q.symbol) != m.symbol) return refuse(r, TRADE_RETCODE_INVALID) == 0;
    if (m.trade_mode == 0) return refuse(r, TRADE_RETCODE_TRADE_DISABLED) == 0;
    if (q.action == TRADE_ACTION_SLTP) {
        size_t i = position_at(q.position);
        if (i == (size_t)-1) return refuse(r, TRADE_RETCODE_POSITION_CLOSED) == 0;
        Position &p = m.positions[i];
        if (p.sl == q.sl && p.tp == q.tp) return refuse(r, TRADE_RETCODE_NO_CHANGES) == 0;
        if (uint bad = check_stops(p.side, q.sl, q.tp)) return refuse(r, bad) == 0;
        p.sl = q.sl;
        p.tp = q.tp;
        if (booked) booked();
        journal("modify", std::to_string(p.ticket) + " " + number(p.sl) + " " + number(p.tp));
        return refuse(r, TRADE_RETCODE_DONE) != 0;
    }
    if (q.action != TRADE_ACTION_DEAL) return refuse(r, TRADE_RETCODE_INVALID) == 0;
    return m.answers.empty() ? executed(q, r) == TRADE_RETCODE_DONE : scripted(q, r);
}
inline bool OrderCalcProfit(ENUM_ORDER_TYPE type, const string &, double lots, double from, double to, double &profit) {
    profit = (type == ORDER_TYPE_BUY ? 1 : -1) * (to - from) * lots * market.contract * market.conversion;
    return true;
}
inline bool OrderCalcMargin(ENUM_ORDER_TYPE, const string &, double lots, double price, double &margin) {
    margin = lots * market.contract * price * market.conversion / market.leverage;
    return true;
}

// ---- what the program may ask

enum ENUM_SYMBOL_INFO_INTEGER { SYMBOL_DIGITS, SYMBOL_SPREAD, SYMBOL_TRADE_STOPS_LEVEL, SYMBOL_TRADE_FREEZE_LEVEL, SYMBOL_FILLING_MODE, SYMBOL_TRADE_EXEMODE, SYMBOL_TRADE_MODE };
enum ENUM_SYMBOL_INFO_DOUBLE { SYMBOL_BID, SYMBOL_ASK, SYMBOL_POINT, SYMBOL_TRADE_TICK_SIZE, SYMBOL_TRADE_TICK_VALUE, SYMBOL_TRADE_CONTRACT_SIZE, SYMBOL_VOLUME_MIN, SYMBOL_VOLUME_MAX, SYMBOL_VOLUME_STEP };
enum ENUM_SYMBOL_INFO_STRING { SYMBOL_CURRENCY_BASE, SYMBOL_CURRENCY_PROFIT };
enum ENUM_ACCOUNT_INFO_INTEGER { ACCOUNT_LOGIN, ACCOUNT_TRADE_MODE, ACCOUNT_TRADE_ALLOWED, ACCOUNT_TRADE_EXPERT, ACCOUNT_MARGIN_MODE, ACCOUNT_LEVERAGE };
enum ENUM_ACCOUNT_INFO_DOUBLE { ACCOUNT_BALANCE, ACCOUNT_EQUITY, ACCOUNT_MARGIN, ACCOUNT_MARGIN_FREE };
enum ENUM_ACCOUNT_INFO_STRING { ACCOUNT_SERVER, ACCOUNT_CURRENCY, ACCOUNT_COMPANY };
enum ENUM_POSITION_PROPERTY_INTEGER { POSITION_TICKET, POSITION_TIME, POSITION_TYPE, POSITION_MAGIC, POSITION_IDENTIFIER };
enum ENUM_POSITION_PROPERTY_DOUBLE { POSITION_VOLUME, POSITION_PRICE_OPEN, POSITION_SL, POSITION_TP, POSITION_PRICE_CURRENT, POSITION_PROFIT, POSITION_SWAP };
enum ENUM_POSITION_PROPERTY_STRING { POSITION_SYMBOL, POSITION_COMMENT };
enum ENUM_DEAL_PROPERTY_INTEGER { DEAL_TICKET, DEAL_ORDER, DEAL_TIME, DEAL_TIME_MSC, DEAL_TYPE, DEAL_ENTRY, DEAL_MAGIC, DEAL_REASON, DEAL_POSITION_ID };
enum ENUM_DEAL_PROPERTY_DOUBLE { DEAL_VOLUME, DEAL_PRICE, DEAL_COMMISSION, DEAL_SWAP, DEAL_PROFIT, DEAL_FEE };
enum ENUM_DEAL_PROPERTY_STRING { DEAL_SYMBOL, DEAL_COMMENT };
enum ENUM_MQL_INFO_INTEGER { MQL_TRADE_ALLOWED, MQL_TESTER, MQL_OPTIMIZATION, MQL_VISUAL_MODE };
enum ENUM_TERMINAL_INFO_INTEGER { TERMINAL_TRADE_ALLOWED, TERMINAL_CONNECTED, TERMINAL_BUILD };
enum ENUM_TERMINAL_INFO_STRING { TERMINAL_NAME, TERMINAL_DATA_PATH, TERMINAL_COMMONDATA_PATH };
#define _Symbol (wide(mql::market.symbol))
#define _Digits ((int)mql::market.digits)
#define _Point (mql::market.point)
#define _Period ((mql::ENUM_TIMEFRAMES)mql::market.period)
#define _LastError (mql::last_error)

inline int PeriodSeconds(ENUM_TIMEFRAMES p = PERIOD_CURRENT) {
    switch (p ? (long)p : market.period) {
        case PERIOD_M1: return 60;
        case PERIOD_M5: return 300;
        case PERIOD_M15: return 900;
        case PERIOD_M30: return 1800;
        case PERIOD_H1: return 3600;
        case PERIOD_H4: return 14400;
        case PERIOD_D1: return 86400;
        case PERIOD_W1: return 604800;
    }
    throw Critical{"PeriodSeconds"};
}
// A terminal that has just been started knows its account and its symbols only after a while.
inline bool connected() { return market.connect_ms == 0 || micros() - started >= 1000ul * (ulong)market.connect_ms; }
inline long SymbolInfoInteger(const string &, ENUM_SYMBOL_INFO_INTEGER p) {
    switch (p) {
        case SYMBOL_DIGITS: return market.digits;
        case SYMBOL_SPREAD: return std::lround(market.spread / market.point);
        case SYMBOL_TRADE_STOPS_LEVEL: return market.stops_level;
        case SYMBOL_TRADE_FREEZE_LEVEL: return 0;
        case SYMBOL_FILLING_MODE: return market.filling;
        case SYMBOL_TRADE_EXEMODE: return market.execution;
        case SYMBOL_TRADE_MODE: return market.trade_mode;
    }
    return 0;
}
inline double SymbolInfoDouble(const string &, ENUM_SYMBOL_INFO_DOUBLE p) {
    if (!connected()) return 0;
    switch (p) {
        case SYMBOL_BID: return market.bid();
        case SYMBOL_ASK: return market.ask();
        case SYMBOL_POINT: case SYMBOL_TRADE_TICK_SIZE: return market.point;
        case SYMBOL_TRADE_TICK_VALUE: return market.point * market.contract * market.conversion;
        case SYMBOL_TRADE_CONTRACT_SIZE: return market.contract;
        case SYMBOL_VOLUME_MIN: return market.lot_min;
        case SYMBOL_VOLUME_MAX: return market.lot_max;
        case SYMBOL_VOLUME_STEP: return market.lot_step;
    }
    return 0;
}
inline string SymbolInfoString(const string &, ENUM_SYMBOL_INFO_STRING p) {
    return wide(p == SYMBOL_CURRENCY_BASE ? market.symbol.substr(0, 3) : market.symbol.size() >= 6 ? market.symbol.substr(3, 3) : market.currency);
}
inline bool SymbolInfoTick(const string &, MqlTick &t) {
    if (market.now < 0) return false;
    t = {datetime(tick_time), market.bid(), market.ask(), 0, 0, tick_time * 1000, 6, 0};
    return true;
}
inline long AccountInfoInteger(ENUM_ACCOUNT_INFO_INTEGER p) {
    switch (p) {
        case ACCOUNT_LOGIN: return connected() ? market.login : 0;
        case ACCOUNT_TRADE_MODE: return market.demo ? ACCOUNT_TRADE_MODE_DEMO : ACCOUNT_TRADE_MODE_REAL;
        case ACCOUNT_TRADE_ALLOWED: case ACCOUNT_TRADE_EXPERT: return 1;
        case ACCOUNT_MARGIN_MODE: return market.hedging ? ACCOUNT_MARGIN_MODE_RETAIL_HEDGING : ACCOUNT_MARGIN_MODE_RETAIL_NETTING;
        case ACCOUNT_LEVERAGE: return std::lround(market.leverage);
    }
    return 0;
}
inline double AccountInfoDouble(ENUM_ACCOUNT_INFO_DOUBLE p) {
    double equity = market.balance + market.floating();
    return p == ACCOUNT_BALANCE ? market.balance : p == ACCOUNT_EQUITY ? equity : p == ACCOUNT_MARGIN ? market.margin() : equity - market.margin();
}
inline string AccountInfoString(ENUM_ACCOUNT_INFO_STRING p) { return wide(p == ACCOUNT_CURRENCY ? market.currency : market.server); }
inline long MQLInfoInteger(ENUM_MQL_INFO_INTEGER p) { return p == MQL_TRADE_ALLOWED ? market.trade_allowed : p == MQL_TESTER ? env("MQL_IN_TESTER", 0) : 0; }
inline long TerminalInfoInteger(ENUM_TERMINAL_INFO_INTEGER p) { return p == TERMINAL_TRADE_ALLOWED ? market.trade_allowed : p == TERMINAL_CONNECTED ? connected() : 5000; }
inline string TerminalInfoString(ENUM_TERMINAL_INFO_STRING) { return wide("simulated"); }

// Whether all ticks of the bar before have come, as they have not at once after a time without the broker.
inline bool synchronized() { return market.sync_ms == 0 || micros() - tick_micros >= 1000ul * (ulong)market.sync_ms; }
enum ENUM_SERIES_INFO_INTEGER { SERIES_SYNCHRONIZED };
inline long SeriesInfoInteger(const string &, ENUM_TIMEFRAMES, ENUM_SERIES_INFO_INTEGER) { return synchronized(); }
inline MqlRates rates_of(int i) {
    const Bar &b = market.bars[(size_t)i];
    if (i == market.now - 1 && !synchronized()) return {datetime(b.time), b.open, b.open, b.open, b.open, 1, (int)std::lround(b.spread / market.point), 0};
    if (i == market.now && !market.closing) return {datetime(b.time), b.open, b.open, b.open, b.open, 1, (int)std::lround(market.spread / market.point), 0};
    return {datetime(b.time), b.open, b.high, b.low, b.close, b.volume, (int)std::lround(b.spread / market.point), 0};
}
inline int rates_between(int first, int last, MqlArray<MqlRates> &out) {
    first = std::max(first, 0);
    if (last < first || market.now < 0) { last_error = 4401; return -1; }
    out.resize(last - first + 1);
    for (int i = first; i <= last; i++) out[i - first] = rates_of(i);
    return last - first + 1;
}
inline int CopyRates(const string &, ENUM_TIMEFRAMES, int start, int count, MqlArray<MqlRates> &out) {
    return rates_between(market.now - start - count + 1, market.now - start, out);
}
inline int CopyRates(const string &, ENUM_TIMEFRAMES, datetime from, datetime to, MqlArray<MqlRates> &out) {
    auto &all = market.bars;
    auto end = all.begin() + market.now + 1;
    auto first = std::lower_bound(all.begin(), end, from.v, [](const Bar &b, long t) { return b.time < t; });
    auto last = std::upper_bound(all.begin(), end, to.v, [](long t, const Bar &b) { return t < b.time; });
    return rates_between((int)(first - all.begin()), (int)(last - all.begin()) - 1, out);
}
inline int Bars(const string &, ENUM_TIMEFRAMES) { return market.now + 1; }

inline size_t selected_position = (size_t)-1;
inline int PositionsTotal() { return (int)market.positions.size(); }
inline ulong PositionGetTicket(int i) {
    if (i < 0 || i >= PositionsTotal()) return 0;
    selected_position = (size_t)i;
    return market.positions[(size_t)i].ticket;
}
inline bool PositionSelectByTicket(ulong t) { size_t i = position_at(t); if (i == (size_t)-1) return false; selected_position = i; return true; }
inline const Position &chosen() {
    if (selected_position >= market.positions.size()) throw Critical{"no position is selected"};
    return market.positions[selected_position];
}
inline long PositionGetInteger(ENUM_POSITION_PROPERTY_INTEGER p) {
    const Position &x = chosen();
    switch (p) {
        case POSITION_TICKET: case POSITION_IDENTIFIER: return (long)x.ticket;
        case POSITION_TIME: return x.time;
        case POSITION_TYPE: return x.side > 0 ? POSITION_TYPE_BUY : POSITION_TYPE_SELL;
        case POSITION_MAGIC: return (long)x.magic;
    }
    return 0;
}
inline double PositionGetDouble(ENUM_POSITION_PROPERTY_DOUBLE p) {
    const Position &x = chosen();
    switch (p) {
        case POSITION_VOLUME: return x.lots;
        case POSITION_PRICE_OPEN: return x.price;
        case POSITION_SL: return x.sl;
        case POSITION_TP: return x.tp;
        case POSITION_PRICE_CURRENT: return market.exit_price(x.side);
        case POSITION_PROFIT: return market.money_of(x, market.exit_price(x.side));
        case POSITION_SWAP: return x.swap;
    }
    return 0;
}
inline string PositionGetString(ENUM_POSITION_PROPERTY_STRING p) { return p == POSITION_SYMBOL ? wide(market.symbol) : chosen().comment; }

inline std::vector<Deal> history;
inline bool HistorySelect(datetime from, datetime to) {
    history.clear();
    auto &all = market.deals;
    size_t first = all.size();
    while (first > 0 && all[first - 1].time >= from.v) first--;
    for (size_t i = first; i < all.size(); i++) if (all[i].time <= to.v) history.push_back(all[i]);
    return true;
}
inline int HistoryDealsTotal() { return (int)history.size(); }
inline ulong HistoryDealGetTicket(int i) { return i < 0 || i >= HistoryDealsTotal() ? 0 : history[(size_t)i].ticket; }
inline bool HistoryDealSelect(ulong t) { for (auto &d : market.deals) if (d.ticket == t) return true; return false; }
inline const Deal &deal_of(ulong t) {
    for (auto d = market.deals.rbegin(); d != market.deals.rend(); ++d) if (d->ticket == t) return *d;
    throw Critical{"no such deal"};
}
inline long HistoryDealGetInteger(ulong t, ENUM_DEAL_PROPERTY_INTEGER p) {
    const Deal &d = deal_of(t);
    switch (p) {
        case DEAL_TICKET: return (long)d.ticket;
        case DEAL_ORDER: return (long)d.order;
        case DEAL_TIME: return d.time;
        case DEAL_TIME_MSC: return d.time * 1000;
        case DEAL_TYPE: return d.side > 0 ? DEAL_TYPE_BUY : DEAL_TYPE_SELL;
        case DEAL_ENTRY: return d.entry;
        case DEAL_MAGIC: return (long)d.magic;
        case DEAL_REASON: return d.reason;
        case DEAL_POSITION_ID: return (long)d.position;
    }
    return 0;
}
inline double HistoryDealGetDouble(ulong t, ENUM_DEAL_PROPERTY_DOUBLE p) {
    const Deal &d = deal_of(t);
    switch (p) {
        case DEAL_VOLUME: return d.lots;
        case DEAL_PRICE: return d.price;
        case DEAL_COMMISSION: return d.commission;
        case DEAL_SWAP: return d.swap;
        case DEAL_FEE: return 0;
        case DEAL_PROFIT: return d.profit;
    }
    return 0;
}
inline string HistoryDealGetString(ulong t, ENUM_DEAL_PROPERTY_STRING p) { return p == DEAL_SYMBOL ? wide(market.symbol) : deal_of(t).comment; }
}  // namespace mql
