"An alignment that is killed and called again: same ranking, same decisions, a sound ledger. Twenty kills: nbs/benchmarks/19_entity_resume.ipynb."
import json, os, signal, subprocess, sys, time
import pytest
from conftest import ROOT
from mmkit.ledger import Ledger

pytestmark = pytest.mark.slow
CHILD = """
import os, signal, sys
folder, fault = sys.argv[1:]
import mmkit.ledger as l
from mmkit.entities.align import align_entities
from mmkit.entities.graphs import emoji_graphs
pair = emoji_graphs(rows=300, dangling=.14); seeds, _ = pair.seeds(.3); write = l._append
def dying(*a): write(*a); os.kill(os.getpid(), signal.SIGKILL)  # after the commit, before the checkpoint says so
if fault: l._append = dying
print("start", flush=True)
result = align_entities(pair.graph_a, pair.graph_b, seeds, target_precision=.8, folds=2, rounds=0, checkpoint=f"{folder}/checkpoint", ledger=l.Ledger(f"{folder}/decisions.db"))
result.to_frame().to_csv(f"{folder}/ranking.csv", index=False)
"""

def started(folder, fault=""):
    (folder/"checkpoint").mkdir(parents=True, exist_ok=True); env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder), fault], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "start\n", child.stderr.read()
    return child

def finished(folder): child = started(folder); _, wrong = child.communicate(); assert child.returncode == 0, wrong
def decisions(folder): return [(e.actor, e.who, e.rule, e.model, e.subject, e.decision, e.reason, json.dumps(e.evidence, sort_keys=True)) for e in Ledger(folder/"decisions.db")]

def test_a_killed_alignment_goes_on(tmp_path):
    calm = tmp_path/"calm"; start = time.monotonic(); finished(calm); seconds = time.monotonic()-start; told = decisions(calm); assert told
    folder = tmp_path/"killed"; child = started(folder); time.sleep(seconds*.3); child.send_signal(signal.SIGKILL); child.communicate(); assert not (folder/"ranking.csv").exists()
    child = started(folder, "after"); child.communicate(); assert child.returncode == -signal.SIGKILL and Ledger(folder/"decisions.db").verify().rows == len(told) and not (folder/"ranking.csv").exists()
    finished(folder); assert (folder/"ranking.csv").read_bytes() == (calm/"ranking.csv").read_bytes() and decisions(folder) == told and Ledger(folder/"decisions.db").verify()
