// The terminal's event loop. Without a market it only runs the timer. With one ($MQL_MARKET) it replays bars: the first
// tick of a bar, the timer until the program has settled, the stops within the bar, its last tick. Settled means that
// $MQL_WATCH was sent once more (an ack, say), or that $MQL_BAR_MS of real time have passed.
#pragma once
#include "books.hpp"
#include <csignal>

namespace mql {
struct Handlers {
    int (*init)();
    void (*tick)();
    void (*timer)();
    void (*deinit)(int);
    void (*trade)(const MqlTradeTransaction &, const MqlTradeRequest &, const MqlTradeResult &);
};
inline ulong timed(const ulong from) {
    ulong spent = micros() - from;
    longest_call_us = std::max(longest_call_us, spent);
    return spent;
}
inline void tell(const Handlers &h) {
    while (!market.news.empty()) {
        Deal d = deal_of(market.news.front());
        market.news.erase(market.news.begin());
        MqlTradeTransaction t{};
        t.deal = d.ticket; t.order = d.order; t.symbol = wide(market.symbol); t.type = TRADE_TRANSACTION_DEAL_ADD;
        t.deal_type = d.side > 0 ? DEAL_TYPE_BUY : DEAL_TYPE_SELL; t.price = d.price; t.volume = d.lots; t.position = d.position;
        h.trade(t, MqlTradeRequest{}, MqlTradeResult{});
    }
}
inline void on_tick(const Handlers &h) { do_what_is_late(); ulong from = micros(); h.tick(); timed(from); tell(h); }
inline void on_timer(const Handlers &h) { do_what_is_late(); ulong from = micros(); h.timer(); timed(from); tell(h); }
// Called early when something has come in, where replayed bars are to pass as fast as they can ($MQL_EAGER).
inline bool eager_wait() {
    static const bool eager = env("MQL_EAGER", 0) != 0;
    if (!eager) return false;
    std::vector<pollfd> all;
    for (auto &s : socks) if (s.second.up) all.push_back({s.second.fd, POLLIN, 0});
    if (all.empty()) return false;
    poll(all.data(), (nfds_t)all.size(), 1);
    return true;
}
inline ulong wait_timer(ulong next, ulong end) {
    if (eager_wait()) return micros();
    ulong period = 1000ul * (ulong)std::max<long>(1, env("MQL_TIMER_MS", timer_ms)), now = micros();
    next = std::max(next + period, now);                       // an event never queues twice
    if (next > now) usleep((useconds_t)(std::min(next, std::max(end, now)) - now));
    return next;
}
inline int drive(const Handlers &h) {
    srand((unsigned)env("MQL_SEED", (long)micros()));
    signal(SIGPIPE, SIG_IGN);
    static const int jump = (int)env("MQL_JUMP_S", 0);
    signal(SIGUSR1, [](int) { clock_jump = jump; });
    signal(SIGUSR2, [](int) { clock_jump = 0; });
    int code = 2;
    try {
        std::istringstream texts(env_text("MQL_WATCH", ""));
        for (std::string text; std::getline(texts, text, '|');) if (!text.empty()) watched.push_back(text);
        broker_offset = env("MQL_OFFSET", 7200);
        ulong run_end = micros() + 1000ul * (ulong)env("MQL_RUN_MS", 30000), next = micros();
        const char *path = getenv("MQL_MARKET");
        bool known = false;                        // from books of a run before
        if (path) {
            load_market(path);
            known = read_books();
            int first = known ? market.now : (int)market.warm;
            if (market.prelude && !known) { set_clock(market.bars[(size_t)first - 1]); last_tick(first - 1); } else open_bar(first);
            booked = write_books;
            write_books();
        }
        if (int bad = h.init()) { h.deinit(REASON_INITFAILED); journal("end", "init " + std::to_string(bad)); return 1; }
        if (path && market.prelude && !known) { on_tick(h); open_bar((int)market.warm); }   // attached before its first bar closed
        if (!path) {
            while (!removed && timer_ms && micros() < run_end) { next = wait_timer(next, run_end); on_timer(h); }
        } else {
            ulong bar_ms = (ulong)env("MQL_BAR_MS", 60000);
            for (;;) {
                tell(h);                           // of what the bar's open has closed
                long seen = watched_seen;
                ulong end = std::min(run_end, micros() + 1000ul * bar_ms);
                on_tick(h);
                if (timer_ms && env("MQL_EAGER", 0)) on_timer(h);
                while (!removed && timer_ms && micros() < end && (watched.empty() || watched_seen == seen)) { next = wait_timer(next, end); on_timer(h); }
                if (!watched.empty() && watched_seen == seen && !removed) journal("unsettled", std::to_string(market.now));
                close_bar();
                tell(h);
                if (removed || micros() >= run_end) break;
                on_tick(h);
                if (market.now + 1 >= (int)market.bars.size()) { code = 0; break; }
                open_bar(market.now + 1);
                write_books();
            }
            if (code == 0 && market.close_at_end) close_everything();
            tell(h);
            ulong linger = micros() + 1000ul * (ulong)env("MQL_LINGER_MS", 0);
            while (!removed && timer_ms && micros() < linger) { next = wait_timer(next, linger); on_timer(h); }
        }
        if (!last_comment.empty()) journal("comment", last_comment);
        h.deinit(removed ? REASON_PROGRAM : REASON_REMOVE);
        if (removed) code = 0;
    } catch (const Critical &c) {
        journal("critical", c.why);
        code = 3;
    }
    journal("end", "{\"code\":" + std::to_string(code) + ",\"balance\":" + number(market.balance) + ",\"longest_call_us\":" + std::to_string(longest_call_us) + "}");
    return code;
}
}  // namespace mql
