// Types, strings, arrays and formatting of MQL5, with its rough edges kept: what the language leaves undefined is
// poisoned here, what a terminal would answer with a critical error stops the run.
#pragma once
#include <algorithm>
#include <cerrno>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <initializer_list>
#include <map>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

namespace mql {
using uchar = uint8_t;
using ushort = uint16_t;
using uint = uint32_t;
using ulong = unsigned long;
using color = int;
static_assert(sizeof(long) == 8, "long has 64 bits in MQL5");

struct Critical {
    std::string why;
};

inline long env(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value ? atol(value) : otherwise;
}
inline std::string env_text(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

// Distinct from long, so that Print and overloads can tell.
struct datetime {
    long v;
    datetime() = default;
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    constexpr datetime(T x) : v((long)x) {}
    constexpr operator long() const { return v; }
    template <class T> datetime &operator+=(T x) { v += (long)x; return *this; }
    template <class T> datetime &operator-=(T x) { v -= (long)x; return *this; }
};

struct Null {
    template <class T> operator T *() const { return nullptr; }
    template <class T> friend bool operator==(T *p, Null) { return !p; }
    template <class T> friend bool operator!=(T *p, Null) { return p; }
};
constexpr Null _NULL{};

// ---- strings: UTF-16 units, as in the terminal

class string {
public:
    std::u16string s;
    string() = default;
    string(const char16_t *p, size_t n) : s(p, n) {}
    string(std::u16string x) : s(std::move(x)) {}
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T> || std::is_enum_v<T>>> explicit string(T x);
    explicit string(datetime t);
    string &operator+=(const string &o) { s += o.s; return *this; }
    friend string operator+(const string &a, const string &b) { return string(a.s + b.s); }
    friend bool operator==(const string &a, const string &b) { return a.s == b.s; }
    friend bool operator!=(const string &a, const string &b) { return a.s != b.s; }
    friend bool operator<(const string &a, const string &b) { return a.s < b.s; }
    friend bool operator>(const string &a, const string &b) { return b.s < a.s; }
};
#define _S(x) mql::string(x, sizeof(x) / 2 - 1)

inline std::string narrow(const std::u16string &s) {
    std::string o;
    for (size_t i = 0; i < s.size(); i++) {
        uint32_t c = s[i];
        if (c >= 0xD800 && c < 0xDC00 && i + 1 < s.size() && s[i + 1] >= 0xDC00 && s[i + 1] < 0xE000)
            c = 0x10000 + ((c - 0xD800) << 10) + (s[++i] - 0xDC00);
        if (c < 0x80) o += (char)c;
        else if (c < 0x800) { o += (char)(0xC0 | c >> 6); o += (char)(0x80 | (c & 63)); }
        else if (c < 0x10000) { o += (char)(0xE0 | c >> 12); o += (char)(0x80 | (c >> 6 & 63)); o += (char)(0x80 | (c & 63)); }
        else { o += (char)(0xF0 | c >> 18); o += (char)(0x80 | (c >> 12 & 63)); o += (char)(0x80 | (c >> 6 & 63)); o += (char)(0x80 | (c & 63)); }
    }
    return o;
}
inline std::string narrow(const string &s) { return narrow(s.s); }
inline std::u16string widen(const std::string &b) {
    std::u16string o;
    for (size_t i = 0; i < b.size();) {
        uint32_t c = (uchar)b[i];
        int n = c < 0x80 ? 0 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
        if (n) c &= 0x3Fu >> n;
        for (i++; n-- && i < b.size(); i++) c = c << 6 | ((uchar)b[i] & 63);
        if (c >= 0x10000) { c -= 0x10000; o += (char16_t)(0xD800 + (c >> 10)); c = 0xDC00 + (c & 1023); }
        o += (char16_t)c;
    }
    return o;
}
inline string wide(const std::string &b) { return string(widen(b)); }

// ---- arrays: bounds checked, new elements poisoned as the terminal leaves them undefined

template <class T> class MqlArray {
    struct Box { T v; };
    std::vector<Box> a;
public:
    bool fixed = false;
    MqlArray() = default;
    MqlArray(const MqlArray &) = default;
    MqlArray(std::initializer_list<T> l) { fixed = true; for (auto &x : l) a.push_back({x}); }
    MqlArray &operator=(const MqlArray &) = delete;              // MQL5 has no assignment of arrays
    int size() const { return (int)a.size(); }
    T &operator[](long i) { check(i); return a[(size_t)i].v; }
    const T &operator[](long i) const { check(i); return a[(size_t)i].v; }
    void check(long i) const {
        if (i < 0 || i >= size()) throw Critical{"array out of range: " + std::to_string(i) + " of " + std::to_string(size())};
    }
    T *raw() { return &a.data()->v; }
    const T *raw() const { return &a.data()->v; }
    void resize(int n, int reserve = 0) {
        size_t old = a.size();
        if ((size_t)n > a.capacity()) a.reserve((size_t)n + (size_t)reserve);
        a.resize((size_t)n);
        if constexpr (std::is_trivially_copyable_v<T>)
            if ((size_t)n > old) std::memset((void *)&a[old], 0xCD, ((size_t)n - old) * sizeof(Box));
    }
};
template <class T, int N> class MqlFixed : public MqlArray<T> {
public:
    MqlFixed() { this->resize(N); this->fixed = true; }
    MqlFixed(std::initializer_list<T> l) {
        this->resize(N); this->fixed = true;
        int i = 0;
        for (auto &x : l) (*this)[i++] = x;
        for (; i < N; i++) (*this)[i] = T{};
    }
};

enum { WHOLE_ARRAY = -1, CP_ACP = 0, CP_UTF8 = 65001, INVALID_HANDLE = -1 };
enum ENUM_INIT_RETCODE { INIT_SUCCEEDED = 0, INIT_FAILED = 1, INIT_PARAMETERS_INCORRECT = 32767 };
enum ENUM_POINTER_TYPE { POINTER_INVALID = 0, POINTER_DYNAMIC = 1, POINTER_AUTOMATIC = 2 };
enum { REASON_PROGRAM = 0, REASON_REMOVE = 1, REASON_INITFAILED = 8 };

template <class T> int ArraySize(const MqlArray<T> &a) { return a.size(); }
template <class T> int ArrayResize(MqlArray<T> &a, int n, int reserve = 0) {
    if (a.fixed || n < 0) throw Critical{"ArrayResize of a fixed array, or to a negative size"};
    a.resize(n, reserve);
    return n;
}
template <class T> void ArrayFree(MqlArray<T> &a) { if (!a.fixed) a.resize(0); }
template <class T> int ArrayCopy(MqlArray<T> &d, const MqlArray<T> &s, int ds = 0, int ss = 0, int n = WHOLE_ARRAY) {
    if (n == 0) throw Critical{"ArrayCopy of 0 elements: terminals take it for the whole array"};
    if (n < 0 || n > s.size() - ss) n = s.size() - ss;
    if (n <= 0) return 0;
    if (ds + n > d.size()) { if (d.fixed) n = d.size() - ds; else d.resize(ds + n); }
    if ((const void *)&d == (const void *)&s && ds < ss + n && ss < ds + n) throw Critical{"ArrayCopy onto itself, overlapping"};
    for (int i = 0; i < n; i++) d[ds + i] = s[ss + i];
    return n;
}
template <class T, class U> int ArrayInitialize(MqlArray<T> &a, U x) { for (int i = 0; i < a.size(); i++) a[i] = (T)x; return a.size(); }
template <class T> void ZeroMemory(T &x) { x = T{}; }
template <class T> void ZeroMemory(MqlArray<T> &a) { for (int i = 0; i < a.size(); i++) a[i] = T{}; }
template <class T> ENUM_POINTER_TYPE CheckPointer(T *p) { return p ? POINTER_DYNAMIC : POINTER_INVALID; }

template <class A, class B> auto MathMax(A a, B b) { return a > b ? a : b; }
template <class A, class B> auto MathMin(A a, B b) { return a < b ? a : b; }
inline double MathAbs(double x) { return std::fabs(x); }
inline int MathAbs(int x) { return x < 0 ? -x : x; }
inline long MathAbs(long x) { return x < 0 ? -x : x; }
inline double MathFloor(double x) { return std::floor(x); }
inline double MathCeil(double x) { return std::ceil(x); }
inline double MathRound(double x) { return std::round(x); }
inline double MathPow(double x, double y) { return std::pow(x, y); }
inline bool MathIsValidNumber(double x) { return std::isfinite(x); }
inline int MathRand() { return rand() & 32767; }
inline void MathSrand(int seed) { srand((unsigned)seed); }
// To the nearest, a half away from zero; what has no room for these digits stays as it is.
inline double NormalizeDouble(double x, int digits) {
    double scale = std::pow(10.0, digits), whole = std::floor(std::fabs(x) * scale + 0.5);
    return whole < 9e15 ? std::copysign(whole / scale, x) : x;
}

#define MQL_STRUCT(n) n *operator->() { return this; } const n *operator->() const { return this; }

// ---- formatting: a wrong width or kind stops the run, where the terminal would print rubbish

struct Arg { char k; long i = 0; double d = 0; string s; int bytes = 8; };
inline Arg arg(const string &s) { return {'s', 0, 0, s, 0}; }
inline Arg arg(double d) { return {'f', 0, d, {}, 8}; }
inline Arg arg(datetime t) { return {'i', t.v, 0, {}, 8}; }
template <class T, class = std::enable_if_t<std::is_integral_v<T> || std::is_enum_v<T>>>
Arg arg(T x) { return {'i', (long)x, 0, {}, (int)sizeof(T)}; }
inline std::string format(const string &fmt, const std::vector<Arg> &v) {
    std::string f = narrow(fmt.s), o;
    size_t n = 0;
    for (size_t i = 0; i < f.size(); i++) {
        if (f[i] != '%') { o += f[i]; continue; }
        if (f[i + 1] == '%') { o += '%'; i++; continue; }
        std::string spec = "%";
        size_t j = i + 1;
        bool is_wide = false;
        while (j < f.size() && strchr("-+ #0123456789.", f[j])) spec += f[j++];
        if (f.compare(j, 3, "I64") == 0) { is_wide = true; j += 3; }
        char c = f[j], buf[512];
        i = j;
        if (n >= v.size()) throw Critical{"StringFormat: too few arguments"};
        const Arg &a = v[n++];
        if (strchr("diuxXco", c)) {
            if (a.k != 'i') throw Critical{std::string("StringFormat: %") + c + " needs an integer"};
            if (!is_wide && a.bytes > 4) throw Critical{std::string("StringFormat: a value of 64 bits needs %I64") + c};
            if (is_wide && a.bytes < 8) throw Critical{"StringFormat: %I64 with a value of 32 bits"};
            spec += is_wide ? std::string("l") + c : std::string(1, c);
            if (is_wide) snprintf(buf, sizeof buf, spec.c_str(), a.i); else snprintf(buf, sizeof buf, spec.c_str(), (int)a.i);
            o += buf;
        } else if (strchr("eEfgGa", c)) {
            if (a.k != 'f') throw Critical{"StringFormat: %f needs a double"};
            snprintf(buf, sizeof buf, (spec + c).c_str(), a.d);
            o += buf;
        } else if (c == 's') {
            if (a.k != 's') throw Critical{"StringFormat: %s needs a string"};
            o += narrow(a.s.s);
        } else throw Critical{std::string("StringFormat: %") + c};
    }
    if (n != v.size()) throw Critical{"StringFormat: too many arguments"};
    return o;
}
template <class... A> string StringFormat(const string &f, const A &...a) { return wide(format(f, {arg(a)...})); }

enum { TIME_DATE = 1, TIME_MINUTES = 2, TIME_SECONDS = 4 };
inline string TimeToString(datetime t, int mode = TIME_DATE | TIME_MINUTES) {
    time_t x = t.v;
    tm g;
    gmtime_r(&x, &g);
    char b[64];
    const char *f = mode & TIME_DATE ? (mode & TIME_SECONDS ? "%Y.%m.%d %H:%M:%S" : mode & TIME_MINUTES ? "%Y.%m.%d %H:%M" : "%Y.%m.%d")
                                     : (mode & TIME_SECONDS ? "%H:%M:%S" : "%H:%M");
    strftime(b, sizeof b, f, &g);
    return wide(b);
}
inline string::string(datetime t) : string(TimeToString(t)) {}
inline std::string shown(const Arg &a) {
    char b[64];
    if (a.k == 's') return narrow(a.s.s);
    if (a.k == 'f') { snprintf(b, sizeof b, "%.16g", a.d); return b; }
    return std::to_string(a.i);
}
template <class T, class> string::string(T x) : string(widen(shown(arg(x)))) {}

// The terminal's journal: one event a line, kind and text parted by a tab.
inline void journal(const char *kind, const std::string &text) {
    std::string line;
    for (char c : text) line += c == '\n' ? std::string("\\n") : std::string(1, c);
    printf("%s\t%s\n", kind, line.c_str());
    fflush(stdout);
}
inline std::string last_comment;
template <class... A> void Print(const A &...a) { std::string o; ((o += shown(arg(a))), ...); journal("print", o); }
template <class... A> void PrintFormat(const string &f, const A &...a) { journal("print", format(f, {arg(a)...})); }
template <class... A> void Comment(const A &...a) { last_comment.clear(); ((last_comment += shown(arg(a))), ...); }

inline string IntegerToString(long x, int = 0, ushort = ' ') { return wide(std::to_string(x)); }
inline string DoubleToString(double x, int d = 8) {
    char b[400];
    snprintf(b, sizeof b, d < 0 ? "%.*e" : "%.*f", std::abs(d), x);
    return wide(b);
}
inline double StringToDouble(const string &s) { return atof(narrow(s).c_str()); }
inline long StringToInteger(const string &s) { return atol(narrow(s).c_str()); }
inline datetime StringToTime(const string &s) {
    tm g{};
    if (sscanf(narrow(s).c_str(), "%d.%d.%d %d:%d:%d", &g.tm_year, &g.tm_mon, &g.tm_mday, &g.tm_hour, &g.tm_min, &g.tm_sec) < 3) return 0;
    g.tm_year -= 1900;
    g.tm_mon -= 1;
    return datetime((long)timegm(&g));
}
inline string ShortToString(ushort c) { return string(std::u16string(1, (char16_t)c)); }
inline int StringLen(const string &s) { return (int)s.s.size(); }
inline string StringSubstr(const string &s, int at, int n = -1) {
    return at < 0 || at >= (int)s.s.size() ? string() : string(s.s.substr((size_t)at, n < 0 ? std::u16string::npos : (size_t)n));
}
inline int StringFind(const string &s, const string &w, int at = 0) {
    auto p = s.s.find(w.s, (size_t)at);
    return p == std::u16string::npos ? -1 : (int)p;
}
inline ushort StringGetCharacter(const string &s, int i) { return i < 0 || i >= (int)s.s.size() ? (ushort)0 : (ushort)s.s[(size_t)i]; }
inline int StringReplace(string &s, const string &from, const string &to) {
    int n = 0;
    for (size_t p = 0; (p = s.s.find(from.s, p)) != std::u16string::npos; p += to.s.size(), n++) s.s.replace(p, from.s.size(), to.s);
    return n;
}
inline int StringSplit(const string &s, ushort by, MqlArray<string> &out) {
    out.resize(0);
    size_t from = 0;
    for (;;) {
        size_t to = s.s.find((char16_t)by, from);
        out.resize(out.size() + 1);
        out[out.size() - 1] = string(s.s.substr(from, to == std::u16string::npos ? to : to - from));
        if (to == std::u16string::npos) return out.size();
        from = to + 1;
    }
}
inline bool StringToLower(string &s) { for (auto &c : s.s) if (c >= 'A' && c <= 'Z') c = (char16_t)(c + 32); return true; }
inline int StringTrimLeft(string &s) {
    size_t n = 0;
    while (n < s.s.size() && (s.s[n] == ' ' || (s.s[n] >= 9 && s.s[n] <= 13))) n++;
    s.s.erase(0, n);
    return (int)n;
}
inline int StringTrimRight(string &s) {
    size_t n = s.s.size();
    while (n > 0 && (s.s[n - 1] == ' ' || (s.s[n - 1] >= 9 && s.s[n - 1] <= 13))) n--;
    int cut = (int)(s.s.size() - n);
    s.s.erase(n);
    return cut;
}
inline int StringToCharArray(const string &s, MqlArray<uchar> &a, int at = 0, int n = -1, uint cp = CP_ACP) {
    std::string b;
    if (cp == CP_UTF8) b = narrow(s.s);
    else for (char16_t c : s.s) b += c < 128 ? (char)c : '?';     // shows a forgotten CP_UTF8
    int k = (int)b.size() + 1;                                     // the terminating zero counts
    if (n >= 0 && n < k) k = n;
    if (a.size() < at + k) { if (a.fixed) k = a.size() - at; else a.resize(at + k); }   // grows, never shrinks
    for (int i = 0; i < k; i++) a[at + i] = i < (int)b.size() ? (uchar)b[(size_t)i] : (uchar)0;
    return k;
}
inline string CharArrayToString(const MqlArray<uchar> &a, int at = 0, int n = -1, uint cp = CP_ACP) {
    std::string b;
    for (int i = at; i < a.size() && (n < 0 || i < at + n) && a[i]; i++) b += cp == CP_UTF8 || a[i] < 128 ? (char)a[i] : '?';
    return wide(b);
}

template <class T> T mql_input(const char *name, T otherwise) {
    const char *value = getenv((std::string("MQL_INPUT_") + name).c_str());
    if (!value) return otherwise;
    if constexpr (std::is_same_v<T, string>) return wide(value);
    else if constexpr (std::is_same_v<T, bool>) return !strcmp(value, "1") || !strcmp(value, "true");
    else if constexpr (std::is_floating_point_v<T>) return (T)atof(value);
    else return (T)atol(value);
}
}  // namespace mql

// MQL5 does not zero objects made by `new`.
inline void *poisoned(size_t n) {
    void *p = malloc(n ? n : 1);
    if (!p) throw std::bad_alloc();
    memset(p, 0xCD, n);
    return p;
}
__attribute__((noinline)) void *operator new(size_t n) { return poisoned(n); }
__attribute__((noinline)) void *operator new[](size_t n) { return poisoned(n); }
__attribute__((noinline)) void operator delete(void *p) noexcept { free(p); }
__attribute__((noinline)) void operator delete[](void *p) noexcept { free(p); }
__attribute__((noinline)) void operator delete(void *p, size_t) noexcept { free(p); }
__attribute__((noinline)) void operator delete[](void *p, size_t) noexcept { free(p); }
