// The broker's books in $MQL_BOOKS: a program that was killed finds its account, and the bar the market had reached, again.
#pragma once
#include "market.hpp"

namespace mql {
inline void write_books() {
    static const std::string file = env_text("MQL_BOOKS", "");
    if (file.empty()) return;
    Market &m = market;
    std::ofstream out(file + ".new");
    out.precision(17);
    out << m.now << ' ' << m.balance << ' ' << m.next_ticket << ' ' << m.positions.size() << ' ' << m.deals.size() << '\n';
    for (auto &p : m.positions)
        out << p.ticket << ' ' << p.side << ' ' << p.lots << ' ' << p.price << ' ' << p.sl << ' ' << p.tp << ' ' << p.margin << ' ' << p.commission << ' ' << p.swap << ' ' << p.magic << ' ' << p.time << ' ' << narrow(p.comment) << '\n';
    for (auto &d : m.deals)
        out << d.ticket << ' ' << d.order << ' ' << d.position << ' ' << d.time << ' ' << d.side << ' ' << (int)d.entry << ' ' << d.lots << ' ' << d.price << ' '
            << d.commission << ' ' << d.swap << ' ' << d.profit << ' ' << d.magic << ' ' << (int)d.reason << ' ' << narrow(d.comment) << '\n';
    out.close();
    if (!out || rename((file + ".new").c_str(), file.c_str())) throw Critical{"books " + file};
}
// Whether there were any.
inline bool read_books() {
    std::ifstream in(env_text("MQL_BOOKS", ""));
    size_t positions = 0, deals = 0;
    Market &m = market;
    if (!(in >> m.now >> m.balance >> m.next_ticket >> positions >> deals)) return false;
    std::string text;
    int entry = 0, reason = 0;
    m.positions.resize(positions);
    for (auto &p : m.positions) {
        in >> p.ticket >> p.side >> p.lots >> p.price >> p.sl >> p.tp >> p.margin >> p.commission >> p.swap >> p.magic >> p.time;
        std::getline(in, text);
        p.comment = wide(text.substr(std::min<size_t>(1, text.size())));
    }
    m.deals.resize(deals);
    for (auto &d : m.deals) {
        in >> d.ticket >> d.order >> d.position >> d.time >> d.side >> entry >> d.lots >> d.price >> d.commission >> d.swap >> d.profit >> d.magic >> reason;
        std::getline(in, text);
        d.entry = (ENUM_DEAL_ENTRY)entry;
        d.reason = (ENUM_DEAL_REASON)reason;
        d.comment = wide(text.substr(std::min<size_t>(1, text.size())));
    }
    if (!in || m.now < 1 || m.now >= (int)m.bars.size()) throw Critical{"books that cannot be read"};
    return true;
}
}  // namespace mql
