"What several test files share: the repository, a copy to break, and a clean environment for child processes."
import json, os, shutil, subprocess, sys
from pathlib import Path
import psutil, pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # test processes run side by side, one to a core; sums round alike everywhere

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(p for p in (ROOT/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)

def repository_files():
    "Every file that is committed or about to be, as paths below the repository."
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout
    return [Path(os.fsdecode(n)) for n in sorted(set(names.split(b"\0"))) if n and (ROOT/os.fsdecode(n)).is_file()]

def run(*command, cwd, check=True, **variables):
    "Run Python with `command`, away from what this process put into its environment (nbdev's `IN_TEST` turns export off)."
    env = {k: v for k, v in os.environ.items() if k not in ("IN_TEST", "PYTHONPATH")} | variables
    done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd, env=env, capture_output=True, text=True)
    if check: assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done

def copy_repository(folder):
    for name in repository_files():
        (folder/name).parent.mkdir(parents=True, exist_ok=True); shutil.copy2(ROOT/name, folder/name)
    return folder

@pytest.fixture
def copy(tmp_path):
    "A copy of the repository that a test may change."
    return copy_repository(tmp_path/"copy")

def run_report(template, given, language, home):
    "The answer of `mmkit poc run TEMPLATE`; parameters that are None are left out."
    from typer.testing import CliRunner
    from mmkit.cli import app
    parameters = [w for k, v in given.items() if v is not None for w in ("-p", f"{k}={v}")]
    return CliRunner().invoke(app, ["poc", "run", template, *parameters, "--language", language, "--out", str(home/"reports")])

def made_report(start, language, home):
    "(language, folder, answer of the command) of a report that must succeed."
    answer = start(home, language); assert answer.exit_code == 0, answer.output
    left = [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE and "ipykernel" in " ".join(p.cmdline())]; assert not left, f"The report left its kernel running: {left}"
    return language, Path(answer.stdout.strip().split("\n")[-1]).parent, answer

def read(report, name): return (report[1]/name).read_text(encoding="utf8")
def results(report): return json.loads(read(report, "results.json"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
