"Every notebook runs from top to bottom: the examples of the documentation are tests."
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook
from conftest import NOTEBOOKS, ROOT, run

pytestmark = pytest.mark.slow
# Templates run through the report runner (tests/test_poc.py), benchmarks with `make bench`.
ELSEWHERE = {"templates", "benchmarks"}
# A process for each notebook: it defines the classes of its module once more, and what it registers must not outlive it.
CODE = "import sys; from nbdev.test import nbdev_test; nbdev_test(sys.argv[1])"

def cases():
    for notebook in [ROOT/"index.ipynb", *NOTEBOOKS]:
        name = notebook.relative_to(ROOT)
        if not ELSEWHERE & set(name.parts): yield pytest.param(notebook, id=str(name))

@pytest.mark.parametrize("notebook", list(cases()))
def test_runs(notebook):
    done = run("-c", CODE, notebook, cwd=ROOT, check=False)
    assert done.returncode == 0 and "Success." in done.stdout, done.stderr

def test_a_failing_notebook_is_noticed(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("assert 1 == 2, 'planted'")]), tmp_path/"bad.ipynb")
    done = run("-c", CODE, tmp_path/"bad.ipynb", cwd=ROOT, check=False)
    assert done.returncode != 0 and "planted" in done.stderr
