"The wheel, as a stranger gets it: built from the repository, installed elsewhere, used from an empty directory."
import subprocess, sys, zipfile
from email import message_from_bytes
import pytest
from conftest import ROOT, copy_repository, run

pytestmark = pytest.mark.slow

@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = copy_repository(tmp_path_factory.mktemp("source"))
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", folder/"out", cwd=folder)
    return next((folder/"out").glob("*.whl"))

@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    "A directory that holds only the installed wheel; its dependencies come from the test environment."
    folder = tmp_path_factory.mktemp("installed")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder)
    return folder

def python(elsewhere, cwd, code):
    "Run `code` in isolated mode with the installed package first on the path."
    return run("-I", "-c", f"import sys; sys.path.insert(0, {str(elsewhere)!r}); {code}", cwd=cwd).stdout.strip()

def names(wheel): return zipfile.ZipFile(wheel).namelist()

def test_data_and_templates_are_inside(wheel):
    tracked = {p.relative_to(ROOT).as_posix() for folder in ("mmkit/data/archives", "mmkit/poc/templates") for p in (ROOT/folder).iterdir() if p.is_file()}
    assert len(tracked) >= 2 and tracked <= set(names(wheel))

def test_only_the_package_is_inside(wheel):
    assert {n.split("/")[0] for n in names(wheel)} == {"mmkit", next(n.split("/")[0] for n in names(wheel) if ".dist-info" in n)}

def test_licences_are_inside(wheel):
    assert {n.rsplit("/", 1)[-1] for n in names(wheel) if "/licenses/" in n} == {"LICENSE", "NOTICE"}

def test_a_stranger_gets_no_development_tools(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = message_from_bytes(archive.read(next(n for n in names(wheel) if n.endswith("METADATA"))))
    needed = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert needed and not [r for r in needed if r.startswith(("nbdev", "fastcore", "execnb", "ghapi", "fastgit", "pytest", "torch", "jupyterlab"))]

def test_it_imports_from_elsewhere_with_its_data(elsewhere, tmp_path):
    assert python(elsewhere, tmp_path, "import mmkit; print(mmkit.__file__)").startswith(str(elsewhere))
    assert python(elsewhere, tmp_path, "import mmkit; print(len(mmkit.load('emoji').ids))") == "1636"
    assert list(tmp_path.iterdir()) == []

def test_the_command_works_from_elsewhere(elsewhere, tmp_path):
    done = subprocess.run([sys.executable, elsewhere/"bin/mmkit", "poc", "list"], cwd=tmp_path, env={"PYTHONPATH": str(elsewhere), "PATH": ""}, capture_output=True, text=True)
    assert done.returncode == 0 and "interactions" in done.stdout, done.stderr
