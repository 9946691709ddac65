"""MQL5 subset -> C++17. It trades completeness for refusing: what it does not know for certain is an error.

MQL5 is so near to C++ that only tokens need changing: `.` becomes `->` (every class and struct of the unit gets an
`operator->` that returns `this`, so values, pointers and array elements need no type tracking), `T a[]` becomes
`MqlArray<T> a`, strings become UTF-16, inputs become constants read when the program starts. Line numbers survive by
`#line`, so the compiler's complaints name the MQL5 source.
"""

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bridge.terminal.vocabulary import BUILTIN_TYPES, EVENTS, FORBIDDEN, FUNCTIONS, KEYWORDS
from forecasting.errors import UserError

_LEX = re.compile(
    r"""
    (?P<ws>[ \t\r\n]+)|(?P<com>//[^\n]*|/\*.*?\*/)|(?P<pre>\#[^\n]*)|
    (?P<date>D'[^']*')|(?P<str>"(?:\\.|[^"\\\n])*")|(?P<chr>'(?:\\.|[^'\\\n])+')|
    (?P<num>0[xX][0-9A-Fa-f]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|
    (?P<id>[A-Za-z_]\w*)|(?P<op>->|::|\+\+|--|<<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|.)
    """,
    re.X | re.S,
)
_DATE = re.compile(r"D'(\d{4})\.(\d\d)\.(\d\d)(?: (\d\d):(\d\d)(?::(\d\d))?)?'")
_ESCAPES = re.compile(r"""\\(?:[nrt\\"'0]|x[0-9A-Fa-f]{1,4}|(.))""", re.S)


class TranslationError(UserError):
    """MQL5 source outside the subset; the message begins with file and line."""


@dataclass(frozen=True)
class Token:
    """A piece of source: its kind (ws, com, pre, date, str, chr, num, id, op), text and line."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Input:
    """An `input` of the program: its MQL5 type, name and default as written."""

    type: str
    name: str
    default: str


@dataclass(frozen=True)
class Translation:
    """C++ source of a whole unit, its inputs, and the files it was made of."""

    cpp: str
    inputs: tuple[Input, ...]
    files: tuple[Path, ...]


def translate(source: Path, include: Sequence[Path]) -> Translation:
    """The program in `source` with what it includes; `include` are the folders of `#include <...>`.

    TranslationError names file and line of what is refused.
    """
    unit = _Unit(tuple(include))
    unit.survey(source.resolve())
    body = unit.emit(source.resolve())
    handlers = {name for name in EVENTS if name in unit.functions}
    cpp = f'#include "mql5.hpp"\nnamespace ea {{\nusing namespace mql;\n{body}\n#line 1 "driver"\n}}\n{_main(handlers)}'
    return Translation(cpp, tuple(unit.inputs), tuple(unit.emitted))


def lex(text: str) -> list[Token]:
    """Tokens of a source; every character belongs to one."""
    tokens, line = [], 1
    for match in _LEX.finditer(text):
        tokens.append(Token(str(match.lastgroup), match.group(), line))
        line += match.group().count("\n")
    return tokens


def _main(handlers: set[str]) -> str:
    def call(name: str, arguments: str, otherwise: str) -> str:
        return f"ea::{name}({arguments});" if name in handlers else otherwise

    init = (
        "return ea::OnInit();" if "OnInit" in handlers else call("OnStart", "", "") + " mql::ExpertRemove(); return 0;"
    )
    return (
        "int main() { mql::Handlers h;\n"
        f"h.init = []() -> int {{ {init} }};\n"
        f"h.tick = [] {{ {call('OnTick', '', '')} }};\n"
        f"h.timer = [] {{ {call('OnTimer', '', '')} }};\n"
        f"h.deinit = [](int reason) {{ (void)reason; {call('OnDeinit', 'reason', '')} }};\n"
        "h.trade = [](const mql::MqlTradeTransaction &t, const mql::MqlTradeRequest &q, const mql::MqlTradeResult &r) "
        f"{{ (void)t; (void)q; (void)r; {call('OnTradeTransaction', 't, q, r', '')} }};\n"
        "return mql::drive(h); }\n"
    )


@dataclass
class _Unit:
    include: tuple[Path, ...]
    types: set[str] = field(default_factory=lambda: set(BUILTIN_TYPES))
    classes: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    macros: set[str] = field(default_factory=set)
    inputs: list[Input] = field(default_factory=list)
    surveyed: set[Path] = field(default_factory=set)
    emitted: list[Path] = field(default_factory=list)
    path: Path = Path()
    scope: list[str] = field(default_factory=list)

    # ---- first pass: what is declared anywhere, since MQL5 knows no order of declaration

    def survey(self, path: Path) -> None:
        if path in self.surveyed:
            return
        self.surveyed.add(path)
        self.path = path
        tokens = [token for token in self.read(path) if token.kind not in ("ws", "com")]
        for token, following in pairwise(tokens):
            if token.kind == "id" and token.text in ("class", "struct", "enum") and following.kind == "id":
                self.types.add(following.text)
                if token.text != "enum":
                    self.classes.add(following.text)
        for token in tokens:
            if token.kind == "pre":
                if found := re.match(r"#define\s+(\w+)", token.text):
                    self.macros.add(found.group(1))
                self.path = path
                if (included := self.included(token)) is not None:
                    self.survey(included)
        self.path = path
        for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
            declares = self.is_type(before) or before.text in ("*", "&", "::", "~")
            if token.kind == "id" and after.text == "(" and declares:
                self.functions.add(token.text)

    def read(self, path: Path) -> list[Token]:
        try:
            return lex(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise TranslationError(f"{path}: cannot be read: {error.strerror}") from None

    def included(self, token: Token) -> Path | None:
        match = re.match(r'#include\s*(?:<([^>]+)>|"([^"]+)")', token.text)
        if match is None:
            return None
        name = (match.group(1) or match.group(2)).replace("\\", "/")
        for folder in [self.path.parent] if match.group(2) else self.include:
            if (folder / name).is_file():
                return (folder / name).resolve()
        raise self.refused(token, f"include {name} not found")

    # ---- second pass

    def emit(self, path: Path) -> str:
        if path in self.emitted:
            return ""
        self.emitted.append(path)
        outer, self.path = self.path, path
        body = self.rewritten(self.read(path))
        self.path = outer
        return f'#line 1 "{path}"\n{body}'

    def refused(self, token: Token, why: str) -> TranslationError:
        return TranslationError(f"{self.path}:{token.line}: {why}")

    def is_type(self, token: Token) -> bool:
        return token.kind == "id" and (token.text in self.types or token.text.startswith("ENUM_"))

    def rewritten(self, tokens: list[Token]) -> str:
        out: list[str] = []
        depth = position = 0
        while position < len(tokens):
            token = tokens[position]
            self.check(tokens, position)
            if token.kind == "id" and token.text in ("input", "sinput") and depth == 0:
                position = self.input(tokens, position, out)
                continue
            if token.kind == "id" and token.text in ("class", "struct"):
                position, opened = self.compound(tokens, position, out)
                depth += opened
                continue
            if self.is_type(token):
                after = self.declaration(tokens, position, out)
                if after is not None:
                    position = after
                    continue
            if token.kind == "op":
                depth += {"{": 1, "}": -1}.get(token.text, 0)
            out.append(self.token(token))
            position += 1
        return "".join(out)

    def token(self, token: Token) -> str:
        text = token.text
        match token.kind:
            case "com":
                return "\n" * text.count("\n")
            case "pre":
                return self.directive(token)
            case "str" | "chr":
                for escape in _ESCAPES.finditer(text):
                    if escape.group(1):
                        raise self.refused(token, f"escape {escape.group()} is not MQL5")
                return f"_S(u{text})" if token.kind == "str" else f"mql::ushort(u{text})"
            case "date":
                return self.date(token)
            case "op" if text == ".":
                return "->"
            case "id" if text == "NULL":
                return "_NULL"
        return text

    def check(self, tokens: list[Token], position: int) -> None:
        """Refuse what a C++ compiler would take and MetaEditor would not."""
        token, after = tokens[position], _near(tokens, position, 1)
        if token.kind == "id":
            self.check_word(tokens, position)
        elif token.kind == "num" and after.kind == "id" and after.line == token.line:
            raise self.refused(token, f"number with suffix '{after.text}'")
        elif token.kind == "op":
            self.check_mark(tokens, position)

    def check_word(self, tokens: list[Token], position: int) -> None:
        token, before, after = tokens[position], _near(tokens, position, -1), _near(tokens, position, 1)
        if token.text in FORBIDDEN:
            raise self.refused(token, f"'{token.text}' is outside the subset")
        literal = after.kind in ("str", "chr") and after.line == token.line
        if literal and token.text not in ("group", "case", "return", "else"):
            raise self.refused(token, f"'{token.text}' before a literal is not MQL5")
        if after.text == "(" and not self.known_call(token, before):
            raise self.refused(token, f"call to {token.text}, which is neither declared here nor in the subset")
        scoped = _near(tokens, _index(tokens, position, 1), 1).text == "::"
        if self.is_type(token) and self.is_type(after) and not scoped:
            raise self.refused(token, f"'{token.text} {after.text}' is not a type of MQL5")
        if token.text == "new" and after.text not in self.classes:
            raise self.refused(token, "new makes objects of classes only")
        if token.text == "for":
            self.check_for(tokens, position)

    def check_mark(self, tokens: list[Token], position: int) -> None:
        token, before, after = tokens[position], _near(tokens, position, -1), _near(tokens, position, 1)
        starts = before.text in ("=", "(", ",", "return")
        why = ""
        match token.text:
            case "->":
                why = "'->' is not MQL5, use '.'"
            case "[" if (before.kind == "op" and before.text not in ")]") or before.text == "return":
                why = "lambda expressions are not MQL5"
            case "{" if before.text in ("return", "(", ",", "]") or self.opens_value(tokens, position):
                why = "brace initialiser outside the declaration of an array"
            case "&" if starts and after.kind == "id":
                why = "'&' takes no address in the subset"
            case "&&" if self.is_type(before) and after.kind == "id":
                why = "'&&' references are not MQL5"
            case "*" if (starts or before.text in (";", "{", "}")) and after.kind == "id":
                why = "'*' before a pointer is outside the subset, use '.'"
        if why:
            raise self.refused(token, why)

    def known_call(self, token: Token, before: Token) -> bool:
        if before.text in (".", "::"):
            return token.text in self.functions
        known = token.text in self.functions or token.text in FUNCTIONS or token.text in self.macros
        return known or token.text in KEYWORDS or self.is_type(token)

    def check_for(self, tokens: list[Token], position: int) -> None:
        depth = 0
        questions = False
        for token in tokens[position + 1 :]:
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            questions |= token.text == "?"
            if depth == 0 and token.text == ")":
                return
            if token.text == ":" and not questions:
                raise self.refused(token, "for over a range is not MQL5")

    def opens_value(self, tokens: list[Token], position: int) -> bool:
        """Whether this brace opens `T{...}`, `T name{...}` or `name={...}` of something that is no array."""
        before = _near(tokens, position, -1)
        if before.text == "=":
            return _near(tokens, _index(tokens, position, -1), -1).text != "]"
        if before.kind != "id" or before.text in ("else", "do", "const", "override"):
            return False
        named = _near(tokens, _index(tokens, position, -1), -1).text
        return named not in ("class", "struct", "enum", "public", "private", "protected")

    def compound(self, tokens: list[Token], position: int, out: list[str]) -> tuple[int, int]:
        """Head of a class or struct, given the operator that lets `->` stand for `.`; next index, braces opened."""
        end = position
        while tokens[end].text not in ("{", ";"):
            end += 1
        out.append("".join(token.text for token in tokens[position : end + 1] if token.kind != "com"))
        if tokens[end].text == ";":
            return end + 1, 0
        name = _near(tokens, position, 1).text
        out.append(f"public: {name}*operator->(){{return this;}} const {name}*operator->()const{{return this;}}")
        out.append("private:" if tokens[position].text == "class" else "")
        return end + 1, 1

    def declaration(self, tokens: list[Token], position: int, out: list[str]) -> int | None:
        """Handle `TYPE [*|&] NAME [N]`, an array: the index after it, or None where it is something else."""
        base = tokens[position]
        marks, index = "", _index(tokens, position, 1)
        while tokens[index].text in ("*", "&"):
            marks += tokens[index].text
            index = _index(tokens, index, 1)
        if tokens[index].kind != "id" or tokens[index].text == "const":
            return None
        if "*" in marks and base.text not in self.classes:
            raise self.refused(base, f"pointer to {base.text}: MQL5 has pointers to objects of classes only")
        if "&" in marks and _near(tokens, position, -1).text not in ("(", ",", "const"):
            raise self.refused(base, "only a parameter may be a reference")
        bracket = _index(tokens, index, 1)
        if bracket >= len(tokens) or tokens[bracket].text != "[":
            return None
        end = bracket
        while tokens[end].text != "]":
            end += 1
        size = self.rewritten(tokens[bracket + 1 : end]).strip()
        after = _near(tokens, end, 1)
        if after.text == "[":
            raise self.refused(base, "arrays of two dimensions are outside the subset")
        if "&" not in marks and (after.text == ")" or (after.text == "," and _in_parameters(tokens, position))):
            raise self.refused(base, "arrays are passed by reference: add &")
        if "&" not in marks and after.text == ",":
            raise self.refused(base, "one array a declaration")
        item = base.text + ("*" if "*" in marks else "")
        reference = "&" if "&" in marks else ""
        kind = f"MqlArray<{item}>" if reference or not size else f"MqlFixed<{item},({size})>"
        out.append(f"{kind} {reference}{tokens[index].text}")
        return end + 1

    def input(self, tokens: list[Token], position: int, out: list[str]) -> int:
        first = _index(tokens, position, 1)
        if tokens[first].text == "group":
            title = _index(tokens, first, 1)
            if tokens[title].kind != "str" or _near(tokens, title, 1).text == ";":
                raise self.refused(tokens[first], 'an input group reads: input group "title", without semicolon')
            out.append("\n" * (tokens[title].line - tokens[position].line))
            return title + 1
        end = first
        while tokens[end].text != ";":
            end += 1
        words = [token for token in tokens[first:end] if token.kind not in ("com", "ws")]
        if len(words) < 4 or words[2].text != "=" or not self.is_type(words[0]):
            raise self.refused(tokens[position], "an input reads: input TYPE NAME=VALUE;")
        kind, name = words[0].text, words[1].text
        default = self.rewritten(words[3:])
        self.inputs.append(Input(kind, name, "".join(word.text for word in words[3:])))
        out.append(f'static const {kind} {name}=mql_input<{kind}>("{name}",{kind}({default}));')
        return end + 1

    def date(self, token: Token) -> str:
        match = _DATE.fullmatch(token.text)
        if match is None:
            raise self.refused(token, "dates are written D'yyyy.mm.dd hh:mi'")
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
        return f"datetime({calendar.timegm((year, month, day, hour, minute, second, 0, 0, 0))})"

    def directive(self, token: Token) -> str:
        text = token.text
        if re.match(r"#property\s+strict", text):
            raise self.refused(token, "#property strict is of MQL4")
        if text.startswith("#property"):
            return ""
        if (included := self.included(token)) is not None:
            return f'{self.emit(included)}\n#line {token.line} "{self.path}"'
        if match := re.match(r"(#define\s+\w+)(\([^)]*\))?(.*)", text):
            if match.group(2):
                raise self.refused(token, "macros with parameters are outside the subset")
            value = match.group(3).split("//")[0].strip()
            return f"{match.group(1)} {self.rewritten(lex(value))}".rstrip()
        if re.match(r"#(ifdef|ifndef|else|endif|undef)\b", text):
            return text
        raise self.refused(token, f"{text.split()[0]} is outside the subset")


_NOTHING = Token("op", "", 0)


def _index(tokens: Sequence[Token], position: int, step: int) -> int:
    """Index of the next token in that direction that is neither space nor comment; len(tokens) where there is none."""
    position += step
    while 0 <= position < len(tokens) and tokens[position].kind in ("ws", "com"):
        position += step
    return position if 0 <= position < len(tokens) else len(tokens)


def _near(tokens: Sequence[Token], position: int, step: int) -> Token:
    index = _index(tokens, position, step)
    return tokens[index] if index < len(tokens) else _NOTHING


def _in_parameters(tokens: Sequence[Token], position: int) -> bool:
    depth = 0
    for token in reversed(tokens[:position]):
        depth += {"(": -1, ")": 1}.get(token.text, 0)
        if depth < 0:
            return True
        if token.text in (";", "{", "}"):
            return False
    return False
