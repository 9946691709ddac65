// Clocks, files, hashes and sockets. Sockets keep the terminal's unfriendly corners: partial sends, a read timeout of 0
// that waits two minutes, SocketIsReadable that says 1 on an empty buffer, addresses that must be allowed.
#pragma once
#include "core.hpp"
#include <arpa/inet.h>
#include <csignal>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace mql {
inline int last_error = 0;
inline bool removed = false;
inline int timer_ms = 0;
inline int GetLastError() { return last_error; }
inline void ResetLastError() { last_error = 0; }
inline void ExpertRemove() { removed = true; }
inline bool IsStopped() { return removed; }
inline bool EventSetMillisecondTimer(int ms) { timer_ms = ms; return ms > 0; }
inline void EventKillTimer() { timer_ms = 0; }

// ---- time. The market's clock stands still while bars are replayed, except for the real time spent within a bar.
inline ulong micros() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (ulong)t.tv_sec * 1000000ul + (ulong)t.tv_nsec / 1000;
}
inline const ulong started = micros();
inline long broker_offset = 7200;
inline long tick_time = 0;                      // broker's time of the last tick, 0 where no market is simulated
inline ulong tick_micros = 0;
inline volatile sig_atomic_t clock_jump = 0;    // s; the clock of the machine is set by $MQL_JUMP_S on SIGUSR1, back on SIGUSR2
inline ulong GetMicrosecondCount() { return micros(); }
inline ulong GetTickCount64() { return micros() / 1000; }
inline long broker_time(long ahead_ms) {
    long jump = (long)clock_jump;
    return tick_time ? tick_time + jump + ((long)(micros() - tick_micros) / 1000 + ahead_ms) / 1000 : (long)time(nullptr) + jump + broker_offset;
}
inline datetime TimeTradeServer() {             // whose seconds begin $MQL_AHEAD_MS before those of the machine's clock
    static const long ahead_ms = env("MQL_AHEAD_MS", 0);
    return datetime(broker_time(ahead_ms));
}
inline datetime TimeGMT() { return datetime(broker_time(0) - broker_offset); }
inline datetime TimeLocal() { return TimeGMT(); }
inline datetime TimeCurrent() { return tick_time ? datetime(tick_time) : TimeTradeServer(); }
inline ulong longest_call_us = 0;               // for the promise that no call holds the terminal
inline void Sleep(int ms) { usleep((useconds_t)ms * 1000); }
struct MqlDateTime { int year, mon, day, hour, min, sec, day_of_week, day_of_year; MQL_STRUCT(MqlDateTime) };
inline bool TimeToStruct(datetime t, MqlDateTime &o) {
    time_t x = t.v;
    tm g;
    gmtime_r(&x, &g);
    o.year = g.tm_year + 1900; o.mon = g.tm_mon + 1; o.day = g.tm_mday; o.hour = g.tm_hour; o.min = g.tm_min; o.sec = g.tm_sec;
    o.day_of_week = g.tm_wday; o.day_of_year = g.tm_yday;
    return true;
}
inline datetime StructToTime(const MqlDateTime &o) {
    tm g{};
    g.tm_year = o.year - 1900; g.tm_mon = o.mon - 1; g.tm_mday = o.day; g.tm_hour = o.hour; g.tm_min = o.min; g.tm_sec = o.sec;
    return datetime((long)timegm(&g));
}

// ---- files: MQL5/Files below $MQL_FILES/local, the folder shared by terminals below $MQL_FILES/common
enum { FILE_READ = 1, FILE_WRITE = 2, FILE_BIN = 4, FILE_CSV = 8, FILE_TXT = 16, FILE_ANSI = 32, FILE_UNICODE = 64,
       FILE_SHARE_READ = 128, FILE_SHARE_WRITE = 256, FILE_REWRITE = 512, FILE_COMMON = 4096 };
struct File { FILE *f; int flags; };
inline std::map<int, File> files;
inline int next_file = 1;
inline std::string file_path(const string &name, int flags) {
    std::string n = narrow(name);
    for (char &c : n) if (c == '\\') c = '/';
    if (n.empty() || n[0] == '/' || n.find("..") != std::string::npos) throw Critical{"file outside the sandbox: " + n};
    std::string root = env_text("MQL_FILES", "") + (flags & FILE_COMMON ? "/common/" : "/local/");
    for (size_t i = 0; i < n.size(); i++) if (n[i] == '/') { mkdir(root.c_str(), 0700); mkdir((root + n.substr(0, i)).c_str(), 0700); }
    mkdir(root.c_str(), 0700);
    return root + n;
}
inline int FileOpen(const string &name, int flags, ushort = '\t', uint cp = CP_ACP) {
    if (getenv("MQL_FILES") == nullptr) { last_error = 5004; return INVALID_HANDLE; }
    if ((flags & FILE_TXT) && cp != CP_UTF8) throw Critical{"text files are written as CP_UTF8 here"};
    FILE *f = fopen(file_path(name, flags).c_str(), !(flags & FILE_WRITE) ? "rb" : flags & FILE_READ ? "r+b" : "wb");
    if (!f) { last_error = 5004; return INVALID_HANDLE; }
    files[next_file] = {f, flags};
    return next_file++;
}
inline FILE *file_of(int h) {
    auto i = files.find(h);
    if (i == files.end()) throw Critical{"file handle " + std::to_string(h)};
    return i->second.f;
}
inline void FileClose(int h) { fclose(file_of(h)); files.erase(h); }
inline void FileFlush(int h) { fflush(file_of(h)); }
inline ulong FileSize(int h) { struct stat s; fstat(fileno(file_of(h)), &s); return (ulong)s.st_size; }
inline bool FileIsEnding(int h) { FILE *f = file_of(h); int c = fgetc(f); if (c == EOF) return true; ungetc(c, f); return false; }
inline bool FileIsExist(const string &name, int common = 0) { return access(file_path(name, common).c_str(), F_OK) == 0; }
inline bool FileDelete(const string &name, int common = 0) { return unlink(file_path(name, common).c_str()) == 0; }
inline bool FileMove(const string &from, int cf, const string &to, int ct) {
    if (!(ct & FILE_REWRITE) && FileIsExist(to, ct)) { last_error = 5019; return false; }
    return rename(file_path(from, cf).c_str(), file_path(to, ct).c_str()) == 0;
}
inline uint FileWriteString(int h, const string &s, int = -1) { std::string b = narrow(s); return (uint)fwrite(b.data(), 1, b.size(), file_of(h)); }
inline string FileReadString(int h, int n = -1) {
    FILE *f = file_of(h);
    std::string b;
    for (int c; (n < 0 || (int)b.size() < n) && (c = fgetc(f)) != EOF && c != '\n';) if (c != '\r') b += (char)c;
    return wide(b);
}
inline uint FileReadArray(int h, MqlArray<uchar> &a, int at = 0, int n = WHOLE_ARRAY) {
    std::string b;
    for (int c; (n < 0 || (int)b.size() < n) && (c = fgetc(file_of(h))) != EOF;) b += (char)c;
    if (a.size() < at + (int)b.size()) a.resize(at + (int)b.size());
    for (size_t i = 0; i < b.size(); i++) a[at + (int)i] = (uchar)b[i];
    return (uint)b.size();
}
inline uint FileWriteArray(int h, const MqlArray<uchar> &a, int at = 0, int n = WHOLE_ARRAY) {
    if (n < 0) n = a.size() - at;
    if (env("MQL_DISK_FULL", 0)) n = std::min(n, 9);                // the rest finds no room
    for (int i = 0; i < n; i++) fputc(a[at + i], file_of(h));
    return (uint)(n < 0 ? 0 : n);
}

// ---- SHA-256 (FIPS 180-4), as CryptEncode gives it
enum ENUM_CRYPT_METHOD { CRYPT_HASH_SHA256 = 6 };
inline std::string sha256(const std::string &text) {
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
        0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
        0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
        0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
        0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
        0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    auto turn = [](uint32_t x, int n) { return x >> n | x << (32 - n); };
    std::string m = text + '\x80';
    while (m.size() % 64 != 56) m += '\0';
    for (int i = 56; i >= 0; i -= 8) m += (char)((uint64_t)text.size() * 8 >> i);
    for (size_t at = 0; at < m.size(); at += 64) {
        uint32_t w[64], v[8];
        for (int i = 0; i < 16; i++) { w[i] = 0; for (int j = 0; j < 4; j++) w[i] = w[i] << 8 | (uchar)m[at + (size_t)(4 * i + j)]; }
        for (int i = 16; i < 64; i++)
            w[i] = w[i - 16] + (turn(w[i - 15], 7) ^ turn(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] + (turn(w[i - 2], 17) ^ turn(w[i - 2], 19) ^ w[i - 2] >> 10);
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 64; i++) {
            uint32_t a = v[7] + (turn(v[4], 6) ^ turn(v[4], 11) ^ turn(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
            uint32_t b = (turn(v[0], 2) ^ turn(v[0], 13) ^ turn(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            for (int j = 7; j > 0; j--) v[j] = v[j - 1];
            v[4] += a;
            v[0] = a + b;
        }
        for (int i = 0; i < 8; i++) h[i] += v[i];
    }
    std::string o;
    for (uint32_t x : h) for (int i = 24; i >= 0; i -= 8) o += (char)(x >> i);
    return o;
}
inline int CryptEncode(ENUM_CRYPT_METHOD, const MqlArray<uchar> &data, const MqlArray<uchar> &, MqlArray<uchar> &out) {
    std::string in, o;
    for (int i = 0; i < data.size(); i++) in += (char)data[i];
    o = sha256(in);
    out.resize(32);
    for (int i = 0; i < 32; i++) out[i] = (uchar)o[(size_t)i];
    return 32;
}

// ---- sockets
struct Sock { int fd = -1; uint snd = 1000; bool up = false, looked = false; };
inline std::map<int, Sock> socks;
inline int next_sock = 1;
inline std::vector<std::string> watched;         // texts sent whose occurrences are counted, across partial sends
inline long watched_seen = 0;
inline std::string sent_tail;
inline int SocketCreate(uint = 0) {
    if (socks.size() >= 128) { last_error = 5271; return INVALID_HANDLE; }
    socks[next_sock];
    return next_sock++;
}
inline Sock *sock_of(int h) {
    auto i = socks.find(h);
    if (i == socks.end()) { last_error = 5270; return nullptr; }
    return &i->second;
}
inline bool SocketClose(int h) {
    Sock *s = sock_of(h);
    if (!s) return false;
    if (s->fd >= 0) close(s->fd);
    socks.erase(h);
    return true;
}
inline bool SocketTimeouts(int h, uint send_ms, uint) { Sock *s = sock_of(h); if (!s) return false; s->snd = send_ms; return true; }
inline bool SocketConnect(int h, const string &host, uint port, uint ms) {
    Sock *s = sock_of(h);
    if (!s) return false;
    if (env("MQL_NOT_ALLOWED", 0)) { last_error = 4014; return false; }
    last_error = 5272;
    addrinfo hint{}, *ai = nullptr;
    hint.ai_family = AF_INET;
    hint.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(narrow(host).c_str(), std::to_string(port).c_str(), &hint, &ai)) return false;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int rc = connect(s->fd, ai->ai_addr, ai->ai_addrlen), why = errno, err = 0, one = 1;
    freeaddrinfo(ai);
    if (rc && why != EINPROGRESS) return false;
    pollfd p{s->fd, POLLOUT, 0};
    socklen_t n = sizeof err;
    if (poll(&p, 1, (int)ms) != 1) return false;
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &err, &n);
    if (err) return false;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    last_error = 0;
    return s->up = true;
}
inline bool SocketIsConnected(int h) {
    Sock *s = sock_of(h);
    if (!s || !s->up) return false;
    char c;
    ssize_t n = recv(s->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}
inline uint SocketIsReadable(int h) {
    Sock *s = sock_of(h);
    int n = 0;
    if (!s || !s->up || ioctl(s->fd, FIONREAD, &n)) return 0;
    if (n == 0 && !s->looked) { s->looked = true; return 1; }       // speculative, the first time at least
    return n == 0 && env("MQL_READABLE_LIES", 0) ? 1u : (uint)n;
}
inline int SocketSend(int h, const MqlArray<uchar> &b, uint n) {
    Sock *s = sock_of(h);
    if (!s || !s->up) return -1;
    if ((int)n > b.size()) throw Critical{"SocketSend past the array"};
    long cap = env("MQL_SEND_CAP", 0);
    if (cap && (long)n > cap) n = (uint)cap;
    pollfd p{s->fd, POLLOUT, 0};
    if (poll(&p, 1, (int)s->snd) != 1) return 0;
    ssize_t k = send(s->fd, b.raw(), n, MSG_NOSIGNAL);
    if (k < 0) { if (errno == EAGAIN) return 0; last_error = 5273; return -1; }
    if (!watched.empty()) {
        sent_tail.append((const char *)b.raw(), (size_t)k);
        size_t longest = 0;
        for (auto &w : watched) {
            for (size_t at; (at = sent_tail.find(w)) != std::string::npos; watched_seen++) sent_tail.erase(0, at + w.size());
            longest = std::max(longest, w.size());
        }
        if (sent_tail.size() > longest) sent_tail.erase(0, sent_tail.size() - longest);
    }
    return (int)k;
}
inline int SocketRead(int h, MqlArray<uchar> &b, uint max, uint ms) {
    Sock *s = sock_of(h);
    if (!s || !s->up) return -1;
    if (ms == 0) ms = 120000;                                       // 0 waits two minutes
    if (b.fixed && (int)max > b.size()) max = (uint)b.size();
    if ((int)max > b.size()) b.resize((int)max);
    uint got = 0;
    ulong end = micros() + ms * 1000ul;
    while (got < max) {                                             // blocks until everything asked for is there
        long left = ((long)end - (long)micros()) / 1000;
        if (left < 0) break;
        pollfd p{s->fd, POLLIN, 0};
        if (poll(&p, 1, (int)left) != 1) break;
        ssize_t k = recv(s->fd, b.raw() + got, max - got, 0);
        if (k == 0) { if (!got) { last_error = 5273; return -1; } break; }
        if (k < 0) { if (errno == EAGAIN) continue; last_error = 5273; return got ? (int)got : -1; }
        got += (uint)k;
    }
    return got ? (int)got : -1;
}
}  // namespace mql
