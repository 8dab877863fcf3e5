"The command line: what it refuses, what it passes on, what it prints."
import json, sys
from pathlib import Path
import pytest
from typer.testing import CliRunner
from mmkit.cli import app
from conftest import ROOT, run as python

terminal = CliRunner()
def mmkit(*words, **kw): return terminal.invoke(app, [str(w) for w in words], **kw)

@pytest.fixture
def no_kernel(monkeypatch):
    "Starting a kernel or a notebook fails the test."
    import jupyter_client, papermill
    def refuse(*a, **k): raise AssertionError("a kernel or a notebook was started")
    monkeypatch.setattr(papermill, "execute_notebook", refuse); monkeypatch.setattr(jupyter_client.AsyncKernelManager, "start_kernel", refuse)

@pytest.fixture
def passed_on(monkeypatch, tmp_path):
    "What the command hands to the runner."
    seen = {}
    def fake(template, parameters, out, progress): seen.update(template=template, parameters=parameters, out=out); progress(0, 1, "step"); return tmp_path/"done"
    monkeypatch.setattr("mmkit.poc.run.run", fake)
    return seen

WRONG = {
    "misspelt name": (["-p", "modality_aa=image"], "Did you mean `modality_a`"),
    "misspelt choice": (["--language", "jp"], "one of `en`, `ja`"),
    "misspelt set": (["-p", "data=emojji"], "Did you mean `emoji`"),
    "no number": (["-p", "seed=lots"], "whole number from 0"),
    "half a number": (["-p", "rows=1.5"], "whole number from 0"),
    "too small": (["-p", "n_boot=1"], "from 50 to 10000"),
    "too large": (["-p", "clusters=100000"], "from 2 to 200"),
    "not finite": (["-p", "min_bits=inf"], "number from 0 to 10"),
    "code in a number": (["-p", "seed=__import__('os').getpid()"], "whole number from 0"),
    "code in a name": (["-p", "label=__import__('os').system('true')"], "must be a name"),
    "format string": (["-p", "label={seed}"], "must be a name"),
    "markup": (["-p", "modality_a=<script>alert(1)</script>"], "must be a name"),
    "a tag of YAML": (["-p", "rows=!!python/object/apply:os.getpid []"], "whole number from 0"),
    "network address": (["-p", "data=https://example.invalid/x.csv"], "no such file"),
    "no value": (["-p", "rows"], "-p name=value"),
    "twice": (["-p", "rows=1", "-p", "rows=2"], "given twice"),
    "no such file": (["--config", "nowhere.yaml"], "no parameter file"),
    "one modality": (["-p", "modality_b=image"], "two different modalities"),
}

@pytest.mark.parametrize("words, message", WRONG.values(), ids=WRONG)
def test_refused_before_anything_starts(words, message, no_kernel, tmp_path):
    answer = mmkit("poc", "run", "interactions", *words, "--out", tmp_path/"reports")
    assert answer.exit_code == 2 and message in answer.stderr and answer.stdout == ""
    assert len(answer.stderr.strip().split("\n")) == 1 and "Traceback" not in answer.stderr and not (tmp_path/"reports").exists()

def test_every_problem_has_its_line(no_kernel, tmp_path):
    answer = mmkit("poc", "run", "interactions", "-p", "modality_aa=image", "-p", "n_boot=1", "-p", "seed=x", "-p", "data=emojji", "--out", tmp_path/"reports")
    assert answer.exit_code == 2 and len(answer.stderr.strip().split("\n")) == 4

def test_unknown_report(no_kernel):
    for command in ("run", "describe"):
        answer = mmkit("poc", command, "interaction")
        assert answer.exit_code == 2 and "Did you mean `interactions`" in answer.stderr

HOSTILE = {
    "python object": "rows: !!python/object/apply:os.system ['true']", "python name": "label: !!python/name:os.system", "a list": "- rows", "a word": "rows",
    "not YAML": "rows: [1", "nested": "label: {a: {b: c}}", "truth": "rows: yes", "number as name": "1: 2", "empty value": "rows:",
    "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(f"{c}: &{c} [{','.join(['*' + chr(ord(c) - 1)]*9)}]" for c in "bcdefghi") + "\nlabel: *i",
    "binary": "rows: \x00\x01",
}

@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(text, no_kernel, tmp_path):
    (tmp_path/"run.yaml").write_text(text)
    answer = mmkit("poc", "run", "interactions", "--config", tmp_path/"run.yaml", "--out", tmp_path/"reports")
    assert answer.exit_code == 2 and "Traceback" not in answer.stderr and len(answer.stderr) < 3000 and not (tmp_path/"reports").exists()

def test_a_file_that_is_not_text(no_kernel, tmp_path):
    (tmp_path/"run.yaml").write_bytes(b"\xff\xfe\x00rows")
    assert mmkit("poc", "run", "interactions", "--config", tmp_path/"run.yaml").exit_code == 2

def test_options_override_p_overrides_file(passed_on, tmp_path):
    (tmp_path/"run.yaml").write_text("rows: 300\nseed: 1\nlanguage: en\n")
    answer = mmkit("poc", "run", "interactions", "--config", tmp_path/"run.yaml", "-p", "rows=200", "-p", "language=en", "--language", "ja", "--out", tmp_path)
    assert answer.exit_code == 0 and passed_on["parameters"] == {"rows": "200", "seed": 1, "language": "ja"} and passed_on["out"] == tmp_path

def test_the_last_line_is_the_page(passed_on, tmp_path):
    answer = mmkit("poc", "run", "interactions")
    assert answer.stdout == f"{tmp_path/'done'/'report.html'}\n" and answer.stderr == "[1/1] step\n"  # steps go to the other stream

def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(*a): raise ZeroDivisionError("a bug")
    monkeypatch.setattr("mmkit.poc.run.run", broken)
    assert isinstance(mmkit("poc", "run", "interactions").exception, ZeroDivisionError)

def test_list_and_describe_name_everything():
    from mmkit.poc.parameters import fields
    assert "interactions" in mmkit("poc", "list").stdout
    shown = mmkit("poc", "describe", "interactions", env={"COLUMNS": "200"}).stdout
    assert all(name in shown for name in fields("interactions")) and "from 50 to 10000" in shown

def test_help_and_version():
    import mmkit as package
    assert package.__version__ in mmkit("--version").stdout
    assert "Exit codes" in mmkit("poc", "--help").stdout and "Exit codes" in mmkit("--help").stdout

HEAVY = ("papermill", "nbconvert", "matplotlib", "pandas", "sklearn", "torch", "IPython")

def test_help_and_refusals_load_nothing_heavy():
    code = f"""
import json, sys
from typer.testing import CliRunner
from mmkit.cli import app
codes = [CliRunner().invoke(app, w).exit_code for w in (["--help"], ["poc", "list"], ["poc", "run", "interactions", "-p", "seed=x"])]
print(json.dumps([codes, [m for m in {HEAVY} if m in sys.modules]]))"""
    assert json.loads(python("-c", code, cwd=ROOT).stdout.strip().split("\n")[-1]) == [[0, 0, 2], []]
