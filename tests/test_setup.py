"scripts/setup.sh on machines that are not ready, and after it was killed. A stub plays Python, so nothing is installed."
import os, shutil, subprocess, time
import pytest
from conftest import ROOT

STUB = r"""#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
  --version) echo "Python 3.11.99";;
  *ensurepip*) [ -z "${NO_ENSUREPIP:-}" ];;
  "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python;;
  *requirements.txt*) [ -z "${PIP_FAILS:-}" ];;
esac
"""

@pytest.fixture
def machine(tmp_path):
    "A clone beside a PATH that holds a few tools and a stub named python3.11."
    project, tools = tmp_path/"clone", tmp_path/"bin"
    (project/"scripts").mkdir(parents=True); tools.mkdir()
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml", "scripts/setup.sh"): shutil.copy(ROOT/name, project/name)
    for tool in ("sh", "cat", "cksum", "rm", "cp", "mkdir", "dirname", "grep"): (tools/tool).symlink_to(shutil.which(tool))
    (tools/"python3.11").write_text(STUB); (tools/"python3.11").chmod(0o755)
    log = tmp_path/"log"; log.touch()
    def setup(**variables):
        log.write_text("")
        done = subprocess.run([tools/"sh", "scripts/setup.sh"], cwd=project, env={"PATH": str(tools), "LOG": str(log), **variables}, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr, log.read_text()
    setup.project, setup.tools = project, tools
    return setup

def test_the_second_run_does_nothing(machine):
    code, said, log = machine()
    assert code == 0 and "-m venv --clear .venv" in log and "-c constraints.txt -r requirements.txt --no-build-isolation -e .[" in log
    code, said, log = machine()
    assert code == 0 and said == "" and "install" not in log

def test_a_changed_pin_installs_again_into_the_same_environment(machine):
    machine(); (machine.project/".venv/kept").touch()
    with open(machine.project/"constraints.txt", "a") as f: f.write("new==1.0\n")
    code, said, log = machine()
    assert code == 0 and "pip install" not in said and "-r requirements.txt" in log and (machine.project/".venv/kept").exists()

def test_a_half_made_environment_is_made_again(machine):
    code, said, log = machine(PIP_FAILS="1")
    assert code != 0 and not (machine.project/".venv/installed.stamp").exists()
    (machine.project/".venv/half").touch()
    code, said, log = machine()
    assert code == 0 and "interrupted" in said and not (machine.project/".venv/half").exists() and not (machine.project/".setup.stamp").exists()

def test_two_at_once_do_not_break_each_other(machine):
    (machine.project/".setup.stamp").write_text(str(os.getpid()))
    code, said, log = machine()
    assert code == 1 and f"process {os.getpid()}" in said and "install" not in log

@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='needs Linux')
def test_a_killed_set_up_that_nobody_buried_does_not_block(machine):
    with subprocess.Popen(["true"]) as zombie:
        while "Z" not in open(f"/proc/{zombie.pid}/status").read().split("State:")[1][:4]: time.sleep(.01)
        (machine.project/".setup.stamp").write_text(str(zombie.pid))
        code, said, log = machine()
    assert code == 0 and "interrupted" in said

def test_a_broken_interpreter_is_replaced(machine):
    machine(); (machine.project/".venv/bin/python").unlink()
    code, said, log = machine()
    assert code == 0 and "-m venv --clear .venv" in log

def test_no_python(machine):
    (machine.tools/"python3.11").unlink()
    code, said, log = machine()
    assert code == 1 and "No Python 3.11 or newer was found" in said and not (machine.project/".venv").exists()

def test_a_name_that_does_not_start_is_passed_over(machine):
    shutil.copy(machine.tools/"python3.11", machine.tools/"python3.12")
    (machine.tools/"python3.11").write_text("#!/bin/sh\nexit 127\n")
    code, said, log = machine()
    assert code == 0 and "-m venv --clear .venv" in log

def test_python_without_ensurepip(machine):
    code, said, log = machine(NO_ENSUREPIP="1")
    assert code == 1 and "apt-get install python3.11-venv" in said and not (machine.project/".setup.stamp").exists()
