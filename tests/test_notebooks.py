"Every notebook runs from top to bottom: the examples of the documentation are tests."
import contextlib, io
import pytest
from nbdev.config import get_config
from nbdev.test import test_nb as run_notebook
from conftest import NOTEBOOKS, ROOT

# Templates run through the report runner (tests of mmkit.poc), benchmarks with `make bench`.
ELSEWHERE = ("templates", "benchmarks")
run_notebook.__test__ = False

def cases():
    for notebook in [ROOT/"index.ipynb", *NOTEBOOKS]:
        name = notebook.relative_to(ROOT)
        if not set(ELSEWHERE) & set(name.parts): yield pytest.param(notebook, id=str(name), marks=[pytest.mark.slow] if "cases" in name.parts else [])

@pytest.mark.parametrize("notebook", list(cases()))
def test_runs(notebook, monkeypatch):
    monkeypatch.chdir(ROOT); monkeypatch.setenv("IN_TEST", "1")
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        passed, _ = run_notebook(notebook, skip_flags=get_config().tst_flags.split())
    assert passed, errors.getvalue()

def test_a_failing_notebook_is_noticed(tmp_path, monkeypatch):
    import nbformat.v4 as v4, nbformat
    nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("assert 1 == 2, 'planted'")]), tmp_path/"bad.ipynb")
    monkeypatch.chdir(ROOT); monkeypatch.setenv("IN_TEST", "1")
    with contextlib.redirect_stderr(io.StringIO()) as errors: passed, _ = run_notebook(tmp_path/"bad.ipynb")
    assert not passed and "planted" in errors.getvalue()
