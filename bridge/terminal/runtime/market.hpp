// A market and an account, after docs/EXECUTION.md: bars hold bids, a purchase pays the spread, stops are gone through
// pessimistically. Not simulated: swap, stop-out, partial fills, pending orders.
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
enum { TRADE_RETCODE_DONE = 10009, TRADE_RETCODE_PLACED = 10008, TRADE_RETCODE_INVALID = 10013, TRADE_RETCODE_INVALID_VOLUME = 10014,
       TRADE_RETCODE_INVALID_STOPS = 10016, TRADE_RETCODE_TRADE_DISABLED = 10017, TRADE_RETCODE_NO_MONEY = 10019,
       TRADE_RETCODE_INVALID_FILL = 10030, TRADE_RETCODE_DONE_PARTIAL = 10010, TRADE_RETCODE_NO_CHANGES = 10025,
       TRADE_RETCODE_CLIENT_DISABLES_AT = 10027, TRADE_RETCODE_POSITION_CLOSED = 10036 };

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

struct Bar { long time; double open, high, low, close, spread, conversion, slippage; long volume; };
struct Position { ulong ticket; int side; double lots, price, sl, tp, commission; ulong magic; long time; string comment; };
struct Deal { ulong ticket, order, position; long time; int side; ENUM_DEAL_ENTRY entry; double lots, price, commission, profit; ulong magic; ENUM_DEAL_REASON reason; string comment; };
struct Market {
    std::string symbol = "EURUSD", server = "Simulated-Demo", currency = "USD";
    long digits = 5, warm = 0, period = 16385, hedging = 1, demo = 1, filling = 3, execution = 2, trade_mode = 4, stops_level = 0,
         trade_allowed = 1, offset = 7200, leverage = 30, close_at_end = 1, reject = 0,
         shift_at = 0, shift_to = 0;
    double point = 1e-5, contract = 100000, lot_min = 0.01, lot_step = 0.01, lot_max = 100, balance = 10000, commission = 0;
    std::vector<Bar> bars;
    int now = -1;                                  // the bar that is forming
    bool closing = false;                          // its last tick has come
    double bid = 0, spread = 0, conversion = 1, slippage = 0;
    std::vector<Position> positions;
    std::vector<Deal> deals;
    ulong next_ticket = 1;
    std::vector<ulong> news;                       // deals the program has not been told of yet
    double ask() const { return bid + spread; }
    double money_of(const Position &p, double at) const { return p.side * (at - p.price) * p.lots * contract * conversion; }
    double exit_price(int side) const { return side > 0 ? bid : ask(); }
    double floating() const { double m = 0; for (auto &p : positions) m += money_of(p, exit_price(p.side)); return m; }
    double margin() const { double m = 0; for (auto &p : positions) m += p.lots * contract * p.price * conversion / (double)leverage; return m; }
};
inline Market market;
inline void (*booked)() = nullptr;                 // told of every change of the account

inline void load_market(const std::string &path) {
    std::ifstream in(path);
    if (!in) throw Critical{"market file " + path};
    Market &m = market;
    std::map<std::string, long *> whole{{"digits", &m.digits}, {"warm", &m.warm}, {"period", &m.period}, {"hedging", &m.hedging}, {"demo", &m.demo},
        {"filling", &m.filling}, {"execution", &m.execution}, {"trade_mode", &m.trade_mode}, {"stops_level", &m.stops_level},
        {"trade_allowed", &m.trade_allowed}, {"offset", &m.offset}, {"leverage", &m.leverage}, {"close_at_end", &m.close_at_end}, {"reject", &m.reject},
        {"shift_at", &m.shift_at}, {"shift_to", &m.shift_to}};
    std::map<std::string, double *> real{{"point", &m.point}, {"contract", &m.contract}, {"lot_min", &m.lot_min}, {"lot_step", &m.lot_step},
        {"lot_max", &m.lot_max}, {"balance", &m.balance}, {"commission", &m.commission}};
    std::map<std::string, std::string *> text{{"symbol", &m.symbol}, {"server", &m.server}, {"currency", &m.currency}};
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        std::string key;
        words >> key;
        if (key == "bar") {
            Bar b{0, 0, 0, 0, 0, 0, 1, 0, 1};
            words >> b.time >> b.open >> b.high >> b.low >> b.close >> b.spread;
            if (!words) throw Critical{"bar: " + line};
            if (!(words >> b.conversion)) b.conversion = 1;
            else if (!(words >> b.slippage)) b.slippage = 0;
            m.bars.push_back(b);
        } else if (key == "held") {                // a position from before, with the program's magic or another's
            Position p{m.next_ticket++, 1, 0, 0, 0, 0, 0, 0, 0, {}};
            words >> p.side >> p.lots >> p.price >> p.magic;
            m.positions.push_back(p);
        } else if (whole.count(key)) words >> *whole[key];
        else if (real.count(key)) words >> *real[key];
        else if (text.count(key)) words >> *text[key];
        else if (!key.empty()) throw Critical{"unknown setting of the market: " + key};
    }
    broker_offset = m.offset;
    if (m.warm < 1 || m.warm >= (long)m.bars.size()) throw Critical{"warm must leave bars to replay"};
}

// The first tick of a bar: its open, with the spread and conversion known from the bar before.
inline void open_bar(int i) {
    Market &m = market;
    m.now = i;
    m.closing = false;
    m.bid = m.bars[(size_t)i].open;
    m.spread = m.bars[(size_t)i - 1].spread * m.point;
    m.conversion = m.bars[(size_t)i - 1].conversion;
    m.slippage = m.bars[(size_t)i].slippage * m.point;
    if (m.shift_at && m.bars[(size_t)i].time >= m.shift_at) broker_offset = m.shift_to;
    tick_time = m.bars[(size_t)i].time;
    tick_micros = micros();
}

inline std::string number(double x) { char b[40]; snprintf(b, sizeof b, "%.17g", x); return b; }
inline ulong book(const Deal &d) {
    Market &m = market;
    m.deals.push_back(d);
    m.news.push_back(d.ticket);
    m.balance += d.profit + d.commission;
    journal("deal", "{\"deal\":" + std::to_string(d.ticket) + ",\"position\":" + std::to_string(d.position) + ",\"time\":" + std::to_string(d.time) +
        ",\"side\":" + std::to_string(d.side) + ",\"entry\":" + std::to_string((int)d.entry) + ",\"lots\":" + number(d.lots) + ",\"price\":" + number(d.price) +
        ",\"commission\":" + number(d.commission) + ",\"profit\":" + number(d.profit) + ",\"reason\":" + std::to_string((int)d.reason) +
        ",\"magic\":" + std::to_string(d.magic) + ",\"bar\":" + std::to_string(m.now) + "}");
    if (booked) booked();
    return d.ticket;
}
inline double tidy(double lots) { return std::round(lots * 1e8) / 1e8; }
inline ulong close_part(size_t i, double lots, double price, ENUM_DEAL_REASON reason, ENUM_DEAL_ENTRY entry = DEAL_ENTRY_OUT) {
    Market &m = market;
    Position p = m.positions[i];
    Position part = p;
    part.lots = lots;
    double profit = m.money_of(part, price);
    m.positions[i].lots = tidy(p.lots - lots);
    if (m.positions[i].lots <= 0) m.positions.erase(m.positions.begin() + (long)i);
    ulong t = m.next_ticket++;
    return book({t, t, p.ticket, tick_time, -p.side, entry, lots, price, -m.commission * lots, profit, p.magic, reason, p.comment});
}

// Stops of the bar that is forming, then its last tick: the close, with the bar's own spread and conversion.
inline void close_bar() {
    Market &m = market;
    const Bar &b = m.bars[(size_t)m.now];
    for (int pass = 0; pass < 2; pass++)            // what is against a position comes before what is for it
        for (size_t i = m.positions.size(); i-- > 0;) {
            Position p = m.positions[i];
            double d = p.side, shift = p.side > 0 ? 0 : m.spread;
            double open = b.open + shift, worst = (p.side > 0 ? b.low : b.high) + shift, best = (p.side > 0 ? b.high : b.low) + shift;
            if (pass == 0 && p.sl > 0 && d * (worst - p.sl) <= 0)
                close_part(i, p.lots, d * std::min(d * open, d * p.sl) - d * m.slippage, DEAL_REASON_SL);
            else if (pass == 1 && p.tp > 0 && d * (best - p.tp) >= 0)
                close_part(i, p.lots, p.tp, DEAL_REASON_TP);
        }
    m.bid = b.close;
    m.spread = b.spread * m.point;
    m.conversion = b.conversion;
    m.closing = true;
}
inline void close_everything() {
    Market &m = market;
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
inline uint deal_request(const MqlTradeRequest &q, MqlTradeResult &r) {
    Market &m = market;
    int side = q.type == ORDER_TYPE_BUY ? 1 : -1;
    double steps = q.volume / m.lot_step;
    if (q.volume <= 0 || q.volume > m.lot_max + 1e-9 || std::fabs(steps - std::round(steps)) > 1e-6) return TRADE_RETCODE_INVALID_VOLUME;
    if (q.type_filling == ORDER_FILLING_RETURN ? m.execution == 2 : !(m.filling & (q.type_filling == ORDER_FILLING_FOK ? 1 : 2))) return TRADE_RETCODE_INVALID_FILL;
    double lots = tidy(q.volume), price = side > 0 ? m.ask() + m.slippage : m.bid - m.slippage;
    r.price = price;
    r.volume = lots;
    size_t held = q.position ? position_at(q.position) : (size_t)-1;
    if (q.position && held == (size_t)-1) return TRADE_RETCODE_POSITION_CLOSED;
    if (!m.hedging && !m.positions.empty()) held = 0;
    if (held != (size_t)-1 && m.positions[held].side == -side) {
        double closing = std::min(lots, m.positions[held].lots), left = tidy(lots - closing);
        if (m.hedging && left > 0) return TRADE_RETCODE_INVALID_VOLUME;
        ulong ticket = m.positions[held].ticket;
        if (left <= 0) { r.deal = r.order = close_part(held, closing, price, DEAL_REASON_EXPERT); return TRADE_RETCODE_DONE; }
        // a reversal is one deal: the close and the new position share it
        Position old = m.positions[held];
        double profit = m.money_of(old, price);
        m.positions[held] = {ticket, side, left, price, q.sl, q.tp, 0, q.magic, tick_time, q.comment};
        ulong t = m.next_ticket++;
        r.deal = r.order = book({t, t, ticket, tick_time, side, DEAL_ENTRY_INOUT, lots, price, -m.commission * lots, profit, q.magic, DEAL_REASON_EXPERT, q.comment});
        return TRADE_RETCODE_DONE;
    }
    if (lots < m.lot_min - 1e-9) return TRADE_RETCODE_INVALID_VOLUME;
    if (uint bad = check_stops(side, q.sl, q.tp)) return bad;
    double margin = lots * m.contract * price * m.conversion / (double)m.leverage;
    if (m.balance + m.floating() - m.margin() - margin - m.commission * lots < 0) return TRADE_RETCODE_NO_MONEY;
    ulong t = m.next_ticket++, position = t;
    if (!m.hedging && !m.positions.empty()) {
        Position &p = m.positions[0];
        position = p.ticket;
        p.price = (p.price * p.lots + price * lots) / (p.lots + lots);
        p.lots = tidy(p.lots + lots);
        if (q.sl > 0) p.sl = q.sl;
        if (q.tp > 0) p.tp = q.tp;
    } else m.positions.push_back({t, side, lots, price, q.sl, q.tp, 0, q.magic, tick_time, q.comment});
    r.deal = r.order = book({t, t, position, tick_time, side, DEAL_ENTRY_IN, lots, price, -m.commission * lots, 0, q.magic, DEAL_REASON_EXPERT, q.comment});
    return TRADE_RETCODE_DONE;
}
inline bool OrderSend(const MqlTradeRequest &q, MqlTradeResult &r) {
    Market &m = market;
    r = MqlTradeResult{};
    if (!m.trade_allowed) return refuse(r, TRADE_RETCODE_CLIENT_DISABLES_AT) == 0;
    if (m.reject) return refuse(r, (uint)m.reject) == 0;
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
    uint code = deal_request(q, r);
    refuse(r, code);
    if (code != TRADE_RETCODE_DONE) journal("refused", std::to_string(code) + " " + number(q.volume));
    return code == TRADE_RETCODE_DONE;
}
inline bool OrderCalcProfit(ENUM_ORDER_TYPE type, const string &, double lots, double from, double to, double &profit) {
    profit = (type == ORDER_TYPE_BUY ? 1 : -1) * (to - from) * lots * market.contract * market.conversion;
    return true;
}
inline bool OrderCalcMargin(ENUM_ORDER_TYPE, const string &, double lots, double price, double &margin) {
    margin = lots * market.contract * price * market.conversion / (double)market.leverage;
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
    switch (p) {
        case SYMBOL_BID: return market.bid;
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
    t = {datetime(tick_time), market.bid, market.ask(), 0, 0, tick_time * 1000, 6, 0};
    return true;
}
inline long AccountInfoInteger(ENUM_ACCOUNT_INFO_INTEGER p) {
    switch (p) {
        case ACCOUNT_LOGIN: return 1;
        case ACCOUNT_TRADE_MODE: return market.demo ? ACCOUNT_TRADE_MODE_DEMO : ACCOUNT_TRADE_MODE_REAL;
        case ACCOUNT_TRADE_ALLOWED: case ACCOUNT_TRADE_EXPERT: return 1;
        case ACCOUNT_MARGIN_MODE: return market.hedging ? ACCOUNT_MARGIN_MODE_RETAIL_HEDGING : ACCOUNT_MARGIN_MODE_RETAIL_NETTING;
        case ACCOUNT_LEVERAGE: return market.leverage;
    }
    return 0;
}
inline double AccountInfoDouble(ENUM_ACCOUNT_INFO_DOUBLE p) {
    double equity = market.balance + market.floating();
    return p == ACCOUNT_BALANCE ? market.balance : p == ACCOUNT_EQUITY ? equity : p == ACCOUNT_MARGIN ? market.margin() : equity - market.margin();
}
inline string AccountInfoString(ENUM_ACCOUNT_INFO_STRING p) { return wide(p == ACCOUNT_CURRENCY ? market.currency : market.server); }
inline long MQLInfoInteger(ENUM_MQL_INFO_INTEGER p) { return p == MQL_TRADE_ALLOWED ? market.trade_allowed : p == MQL_TESTER ? env("MQL_IN_TESTER", 0) : 0; }
inline long TerminalInfoInteger(ENUM_TERMINAL_INFO_INTEGER p) { return p == TERMINAL_TRADE_ALLOWED ? market.trade_allowed : p == TERMINAL_CONNECTED ? 1 : 5000; }
inline string TerminalInfoString(ENUM_TERMINAL_INFO_STRING) { return wide("simulated"); }

inline MqlRates rates_of(int i) {
    const Bar &b = market.bars[(size_t)i];
    if (i == market.now && !market.closing) return {datetime(b.time), b.open, b.open, b.open, b.open, 1, (int)std::lround(market.spread / market.point), 0};
    return {datetime(b.time), b.open, b.high, b.low, b.close, b.volume, (int)std::lround(b.spread), 0};
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
    int first = 0, last = market.now;
    while (first <= last && market.bars[(size_t)first].time < from.v) first++;
    while (last >= first && market.bars[(size_t)last].time > to.v) last--;
    return rates_between(first, last, out);
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
        case POSITION_SWAP: return 0;
    }
    return 0;
}
inline string PositionGetString(ENUM_POSITION_PROPERTY_STRING p) { return p == POSITION_SYMBOL ? wide(market.symbol) : chosen().comment; }

inline std::vector<Deal> history;
inline bool HistorySelect(datetime from, datetime to) {
    history.clear();
    for (auto &d : market.deals) if (d.time >= from.v && d.time <= to.v) history.push_back(d);
    return true;
}
inline int HistoryDealsTotal() { return (int)history.size(); }
inline ulong HistoryDealGetTicket(int i) { return i < 0 || i >= HistoryDealsTotal() ? 0 : history[(size_t)i].ticket; }
inline bool HistoryDealSelect(ulong t) { for (auto &d : market.deals) if (d.ticket == t) return true; return false; }
inline const Deal &deal_of(ulong t) {
    for (auto &d : market.deals) if (d.ticket == t) return d;
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
        case DEAL_SWAP: case DEAL_FEE: return 0;
        case DEAL_PROFIT: return d.profit;
    }
    return 0;
}
inline string HistoryDealGetString(ulong t, ENUM_DEAL_PROPERTY_STRING p) { return p == DEAL_SYMBOL ? wide(market.symbol) : deal_of(t).comment; }
}  // namespace mql
