"What a cell of the training notebook cannot show: kills, hostile input, what must not leak."
import os, signal, subprocess, sys, time
from dataclasses import replace
import numpy as np, pytest
torch = pytest.importorskip("torch")
from mmkit.checks import InputError
from mmkit.entities import training
from mmkit.entities.graphs import MultimodalGraph, emoji_graphs
from mmkit.entities.model import ModelSettings
from mmkit.entities.training import PersistencePolicy, replay, train_embedding
from conftest import ROOT

FEW = ModelSettings(epochs=10, switch=3, momentum=.5, refresh=2, batch=24, view_width=20, structure_width=16, held_out=.2, feature_width=50)
QUICK = PersistencePolicy(every=1, checks=2, min_votes=1)

@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads(); torch.set_num_threads(1); yield; torch.set_num_threads(before)

@pytest.fixture(scope="module")
def pair(): return emoji_graphs(rows=70, seed=101)

def go(pair, seeds=None, settings=FEW, **kw): return train_embedding(pair.graph_a, pair.graph_b, pair.links[::2] if seeds is None else seeds, settings, **{"pseudo": QUICK, **kw})

@pytest.fixture(scope="module")
def whole(pair): return {c: go(pair, compat=c) for c in (None, "paper")}

class Stop(Exception): pass

@pytest.mark.parametrize("compat", [None, "paper"])
def test_stopped_at_random_epochs_it_ends_the_same(pair, whole, compat, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0); rng, path = np.random.default_rng(7), tmp_path/"t.npz"
    for _ in range(3):
        n = rng.integers(1, 10)
        def look(done, total, what):
            if done >= n: raise Stop
        try: go(pair, compat=compat, checkpoint=path, progress=look)
        except Stop: pass
    t = go(pair, compat=compat, checkpoint=path); w = whole[compat]
    assert t.z_a.tobytes() == w.z_a.tobytes() and t.z_b.tobytes() == w.z_b.tobytes() and t.log == w.log and np.array_equal(t.links, w.links) and len(w.log)

def test_a_finished_training_is_read_not_repeated(pair, whole, tmp_path):
    path = tmp_path/"t.npz"; go(pair, checkpoint=path); seen = []
    assert go(pair, checkpoint=path, progress=lambda *a: seen.append(a)).z_a.tobytes() == whole[None].z_a.tobytes() and not seen

KILL = """
import sys, numpy as np, torch; torch.set_num_threads(1)
sys.path.insert(0, "tests")
from test_training import *
training.SAVE_SECONDS = 0; p = emoji_graphs(rows=70, seed=101)
train_embedding(p.graph_a, p.graph_b, p.links[::2], FEW, pseudo=QUICK, checkpoint=sys.argv[1], progress=lambda *a: print(a[0], flush=True))
"""

@pytest.mark.slow
def test_killed_at_random_moments_it_ends_the_same(pair, whole, tmp_path):
    rng, path = np.random.default_rng(3), tmp_path/"t.npz"
    for _ in range(3):
        p = subprocess.Popen([sys.executable, "-W", "ignore", "-c", KILL, path], cwd=ROOT, stdout=subprocess.PIPE); p.stdout.readline()
        time.sleep(rng.uniform(0, .3)); p.send_signal(signal.SIGKILL); p.wait()
    t = go(pair, checkpoint=path); assert t.z_a.tobytes() == whole[None].z_a.tobytes() and t.log == whole[None].log

def test_order_and_repetition_of_seeds_change_nothing(pair, whole):
    with pytest.warns(UserWarning, match="come more than once"): t = go(pair, np.concatenate([pair.links[::2][::-1], pair.links[:1]]))
    assert t.z_a.tobytes() == whole[None].z_a.tobytes()

def test_held_out_seeds_do_not_train(pair):
    one = go(pair, pseudo=None); held = one.held; seeds = pair.links[::2].copy(); rows = [int(np.flatnonzero((seeds == h).all(1))[0]) for h in held]
    seeds[rows, 1] = np.roll(seeds[rows, 1], 1); other = go(pair, seeds, pseudo=None)  # all held-out partners wrong
    assert other.z_a.tobytes() == one.z_a.tobytes() and one.history[-1]["held_out"] > other.history[-1]["held_out"]

def test_the_log_replays_to_the_links(whole):
    for t in whole.values(): assert np.array_equal(replay(t.log), t.links) and len(np.unique(t.links[:, 0])) == len(np.unique(t.links[:, 1])) == len(t.links)

def test_seeds_differ_from_machine_made_links(pair, whole):
    train = set(map(tuple, pair.links[::2].tolist()))-set(map(tuple, whole[None].held.tolist())); assert not {a for a, _ in train} & set(whole[None].links[:, 0].tolist())

@pytest.mark.parametrize("changes", [dict(guidance="attention"), dict(guidance="linear", information="dv"), dict(start="random"), dict(information="none", momentum=None, reorder=False), dict(modalities=("structure",)), dict(modalities=("image",))])
def test_options_run_and_stay_finite(pair, changes):
    t = go(pair, settings=replace(FEW, epochs=5, guidance_heads=5, **changes)); assert np.isfinite(t.z_a).all() and np.isfinite(t.z_b).all() and t.z_a.dtype == np.float32

@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [2, 3, 9, 12])
def test_few_seeds(pair, n): assert np.isfinite(go(pair, pair.links[:n], replace(FEW, epochs=4)).z_a).all()

@pytest.mark.filterwarnings("ignore")
def test_graphs_that_hold_little():
    ids = [[f"{s}{i}" for i in range(20)] for s in "ab"]; links = np.array([(i, i) for i in range(12)])
    for kw in (dict(names=[f"n{i}" for i in range(20)]), dict(names=["same"]*20), dict(names=[None]*19+["x"])):
        t = train_embedding(MultimodalGraph(ids[0], **kw), MultimodalGraph(ids[1], **kw), links, replace(FEW, epochs=4), pseudo=QUICK); assert np.isfinite(t.z_a).all()
    loops = [MultimodalGraph(i, triples=[(v, "is", v) for v in i]+[(i[0], "of", i[1]), (i[1], "of", i[0])]) for i in ids]
    t = train_embedding(*loops, links, replace(FEW, epochs=4)); assert np.isfinite(t.z_a).all() and not t.z_a[5].any()

def test_checkpoint_in_no_folder_is_refused_before_training(pair, tmp_path):
    with pytest.raises(InputError, match="folder that exists"): go(pair, checkpoint=tmp_path/"none"/"t.npz")

def test_a_pickle_is_refused(pair, tmp_path):
    np.savez(tmp_path/"t.npz", header=np.array({"a": 1}, dtype=object))
    with pytest.raises(InputError, match="damaged"): go(pair, checkpoint=tmp_path/"t.npz")

def test_nearly_equal_settings_do_not_share_a_checkpoint(pair, tmp_path):
    go(pair, settings=replace(FEW, epochs=4), checkpoint=tmp_path/"t.npz")
    for other in (replace(FEW, epochs=5), replace(FEW, epochs=4, teaching=.02)):
        with pytest.raises(InputError, match="other graphs"): go(pair, settings=other, checkpoint=tmp_path/"t.npz")
