"""The translator refuses what MetaEditor would refuse, and keeps the lines of the source."""

import importlib.util

import pytest
from simulated import built, ran

from bridge.terminal import build as building
from bridge.terminal.build import EXPERT, MQL5, BuildError, build, compiler
from bridge.terminal.translator import TranslationError, lex, translate
from forecasting.errors import ConfigError

REFUSED = {
    "auto x=1;": "'auto'",
    "int *p=NULL;": "pointer to int",
    "void F(void) { CThing *t=NULL; t->Go(); }": "'->'",
    "void F(void) { PlaySound(1); }": "call to PlaySound",
    "void F(void) { g_thing.Missing(); }": "call to Missing",
    "void F(int a[]) { }": "passed by reference",
    "int a[],b[];": "one array",
    "int a[2][2];": "two dimensions",
    "int x{1};": "brace initialiser",
    "void F(void) { int f=[](int a) { return(a); }(1); }": "lambda",
    "void F(void) { for(int x : g_list) x++; }": "range",
    "void F(const int &x) { int &y=x; }": "only a parameter",
    "void F(void) { Go(&g_thing); } void Go(CThing &t) { }": "address",
    "unsigned int x=1;": "'unsigned'",
    "long long x=1;": "'long long'",
    "long x=1UL;": "suffix",
    "#property strict": "MQL4",
    '#import "libzmq.dll"': "#import",
    "#define TWICE(x) x+x": "macros with parameters",
    "#include <Missing.mqh>": "not found",
    "template<typename T> T F(T x) { return(x); }": "'template'",
    "input int InpA;": "an input reads",
    'input group "A";': "without semicolon",
    "datetime t=D'01.02.2020';": "dates",
    'string s="\\q";': "escape",
    'string s=u"x";': "before a literal",
    "void F(void) { double *d=new double; }": "pointer to double",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_the_subset_forbids_is_refused_with_file_and_line(tmp_path, line):
    source = tmp_path / "Bad.mq5"
    source.write_text("class CThing { public: void Go(void) { } };\nCThing g_thing;\n\n" + line + "\n")
    with pytest.raises(TranslationError, match=r"Bad\.mq5:4: ") as refusal:
        translate(source, [])
    assert REFUSED[line] in str(refusal.value)


GOOD = """
struct SBox { int n; int many[]; };
class CThing { private: int m_n; public: CThing(void) { m_n=7; } int Twice(const int by=2) const { return(m_n*by); } };
input group "A"
input int InpN=3; // a number
CThing *g_thing=NULL;
int OnInit(void)
  {
   g_thing=new CThing;
   SBox box;
   box.n=g_thing.Twice()+InpN;
   ArrayResize(box.many,2);
   box.many[1]=-(box.n);
   Print("n ",box.many[1]," ",TimeToString(D'2024.01.02 03:04'),StringFormat(" %I64d %s",(long)5,"żółć"));
   delete g_thing;
   g_thing=NULL;
   ExpertRemove();
   return(INIT_SUCCEEDED);
  }
"""


def test_pointers_structs_arrays_and_inputs_run(tmp_path):
    source = tmp_path / "Good.mq5"
    source.write_text(GOOD)
    program = built(source)
    assert [(known.type, known.name, known.default) for known in program.inputs] == [("int", "InpN", "3")]
    assert ran(program).prints == ["n -17 2024.01.02 03:04 5 żółć"]
    assert ran(program, {"InpN": 5}).prints[0].startswith("n -19")
    assert build(source).path == program.path
    with pytest.raises(ConfigError, match="unknown input 'InpM'"):
        program.start({"InpM": 1})


def test_a_conversion_that_loses_data_or_an_assigned_array_does_not_compile(tmp_path):
    compiler()
    for text, complaint in {
        "void OnTick(void) { double d=1.5; int n=d; Print(n); }": "conversion",
        "int a[]; int b[]; void OnTick(void) { a=b; }": "deleted",
        "void OnTick(void) { string s=5; Print(s); }": "conversion",
    }.items():
        source = tmp_path / "Lossy.mq5"
        source.write_text("\n\n" + text)
        with pytest.raises(BuildError, match=complaint) as error:
            build(source)
        assert "Lossy.mq5:3" in str(error.value)


def test_without_a_compiler_the_cure_is_named(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(building.shutil, "which", lambda name: None)
    monkeypatch.setattr(building.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match="pip install ziglang"):
        compiler()
    monkeypatch.setattr(building.importlib.util, "find_spec", lambda name: object())
    assert compiler()[1:] == ["-m", "ziglang", "c++"]


@pytest.mark.slow
def test_the_compiler_of_the_ziglang_wheel_builds_an_expert_that_runs(monkeypatch, tmp_path):
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("pip install ziglang to check that its compiler builds the Expert Advisor")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(building.shutil, "which", lambda name: None)
    assert "ziglang" in compiler()
    monkeypatch.setenv("TUNETRADE_CACHE", str(tmp_path))
    journal = ran(build(EXPERT), {"InpPort": 1}, {"RUN_MS": 300, "NOT_ALLOWED": 1})
    assert "is not allowed" in journal.prints[-1] and journal.end["longest_call_us"] < 500_000


def test_every_character_belongs_to_a_token():
    for path in sorted(MQL5.rglob("*.mq*")):
        text = path.read_text(encoding="utf-8")
        assert "".join(token.text for token in lex(text)) == text
    assert EXPERT.parent.is_dir()
