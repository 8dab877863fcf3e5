"Every notebook runs from top to bottom: the examples of the documentation are tests. Cells marked `slow` repeat others on more data and run only by hand."
import nbformat, pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from nbformat.v4 import new_code_cell, new_notebook
from conftest import NOTEBOOKS, ROOT, run

pytestmark = pytest.mark.slow
# Templates run through the report runner (tests/test_poc.py), benchmarks with `make bench`.
ELSEWHERE = {"templates", "benchmarks"}
# Cases whose stored results took many minutes: the same cells on less work.
LESS = {"01_interactions_replication": dict(tables=100, programmes=20, searched=10_000, null_sets=40, large_sets=4, null_draws=10, accuracy_tables=60, sets=20, draws=19, curve_sets=3),
        "03_alignment_replication": dict(small=True, epochs=3, n_null=19), "02_buying_decision": dict(thinned=3), "04_alignment_emoji": dict(draws=3, every=3), "05_misalignment_replication": dict(seconds=1, probe_epochs=1, probed=500),
        "07_entities_emoji": dict(rows=170, draws=[11], off=["name"], looks=20), "09_decoder_defect": dict(draws=400, worlds=200, folds=3)}
# A process for each notebook: it defines the classes of its module once more, and what it registers must not outlive it.
CODE = "import sys; from nbdev.test import nbdev_test; nbdev_test(sys.argv[1])"

def cases():
    for notebook in [ROOT/"index.ipynb", *NOTEBOOKS]:
        name = notebook.relative_to(ROOT)
        if not ELSEWHERE & set(name.parts): yield pytest.param(notebook, id=str(name))

@pytest.mark.parametrize("notebook", list(cases()))
def test_runs(notebook, tmp_path):
    if notebook.stem in LESS:
        shorter = parameterize_notebook(load_notebook_node(str(notebook)), LESS[notebook.stem], kernel_name="python3", language="python"); notebook = tmp_path/notebook.name
        nbformat.write(shorter, notebook)
    done = run("-c", CODE, notebook, cwd=ROOT, check=False)
    assert done.returncode == 0 and "Success." in done.stdout, done.stderr

def test_a_failing_notebook_is_noticed(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("assert 1 == 2, 'planted'")]), tmp_path/"bad.ipynb")
    done = run("-c", CODE, tmp_path/"bad.ipynb", cwd=ROOT, check=False)
    assert done.returncode != 0 and "planted" in done.stderr

def test_less_names_parameters_that_exist():
    for name, less in LESS.items():
        cell, = [c for c in nbformat.read(ROOT/f"nbs/cases/{name}.ipynb", 4).cells if "parameters" in c.metadata.get("tags", [])]
        assert all(f"\n{k}: " in "\n"+cell.source for k in less), name
