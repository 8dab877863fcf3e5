"The neural estimator: known answers, identities, nothing invented, nothing lost on a kill, hostile input."
import warnings
import numpy as np, pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.data.records import MultimodalRecords
from mmkit.data.synthetic import GATES, gate
from mmkit.interactions import neural
from mmkit.interactions.neural import (Evidence, NeuralResult, Recipe, calibrate, coupled_information, couple, cross_fit, estimate_neural, fold_of, lifted_gate,
                                       posterior_table, single_thread, sinkhorn, union_information, _design)
from mmkit.interactions.pid import decompose, mutual_information

QUICK = dict(repeats=1, n_boot=50, n_null=1, epochs=20, folds=3)
PARTS = ("redundancy", "unique_a", "unique_b", "synergy")


def test_calibrated_posteriors_form_a_table_whose_information_is_the_held_out_one():
    rng = np.random.default_rng(0)
    for k in (2, 3, 5):
        y = rng.integers(k, size=400); logits = 3*rng.normal(size=(400, k))+2*np.eye(k)[y]; log_p = logits-np.log(np.exp(logits).sum(1, keepdims=True))
        w = rng.random(400); w /= w.sum()
        p, theta = calibrate(_design([log_p]), y, w)
        share = np.bincount(y, w)
        assert np.allclose(w @ p, share, atol=1e-8) and 0 < theta[0] < 1  # overconfident: the slope is below one
        held_out = -(share*np.log2(share)).sum()+w @ np.log2(p[np.arange(400), y])
        assert mutual_information(posterior_table(p, w, share)) == pytest.approx(held_out, abs=1e-6)


def test_a_slope_is_never_negative():
    y = np.arange(200) % 2; wrong = np.log(np.where(np.eye(2)[y] > 0, .2, .8))
    p, theta = calibrate(_design([wrong]), y, np.full(200, 1/200))
    assert theta[0] == 0 and np.allclose(p, .5, atol=1e-6)


@pytest.mark.parametrize("name", ["and", "bsc_10_20", "sum", "pntunq"])
def test_true_posteriors_give_the_exact_decomposition(name):
    "With the posteriors of the gate itself nothing is left to the networks."
    t = gate(name); n = np.round(t*8000).astype(int); a, b, y = (np.repeat(v, n.ravel()) for v in np.indices(t.shape).reshape(3, -1))
    log = lambda p: np.log(np.maximum(p/p.sum(-1, keepdims=True), 1e-9))[None]
    every = np.arange(len(y)); joint = np.divide(n, n.sum(2, keepdims=True), out=np.full(n.shape, 1/n.shape[2]), where=n.sum(2, keepdims=True) > 0)
    e = Evidence(y, dict(a=every, b=every, ab=every), dict(a=log(n.sum(1))[:, a], b=log(n.sum(0))[:, b], ab=log(joint)[:, a, b]))
    d = decompose(n); value = dict(zip(neural.NAMES, e.value()))
    for q in ("total", *PARTS): assert value[q] == pytest.approx(getattr(d, q), abs=2e-3), q


def test_union_information_is_symmetric_and_adds_nothing_for_a_copy():
    rng = np.random.default_rng(1)
    for k in (2, 3):
        a, b = rng.dirichlet(np.full(k, .6), 30)/30, rng.dirichlet(np.full(k, .6), 20)/20; b *= a.sum(0)/b.sum(0)
        u = union_information(a, b)
        assert u == pytest.approx(union_information(b, a), abs=1e-5) and u >= max(mutual_information(a), mutual_information(b))-1e-6
        assert union_information(a, a) == pytest.approx(mutual_information(a), abs=1e-5)


def test_the_coupling_meets_its_margins_and_cannot_beat_the_optimum():
    rng = np.random.default_rng(2); p = [rng.dirichlet([.7, .7], 60) for _ in range(2)]; every = np.arange(60); p_y = np.array([.5, .5])
    with single_thread() as torch:
        t = [torch.as_tensor(posterior_table(v, np.full(60, 1/60), p_y)) for v in p]
        q = sinkhorn(torch, torch.as_tensor(rng.random((60, 60, 2))), *t, 1e-6, 5000)
        assert np.allclose(q.sum(1), t[0]) and np.allclose(q.sum(0), t[1], atol=1e-6) and float(coupled_information(torch, q, t[0])) > 0
    x = [rng.normal(size=(60, 4))+v[:, :1] for v in p]; (_, _, got), = couple(x[0], p[0], x[1], p[1], (every, every), (every, every), p_y=p_y, epochs=20)
    best = union_information(*(v.numpy() for v in t))-mutual_information(t[0].numpy())
    assert best-1e-3 < got


@pytest.mark.parametrize("name", ["xor", "bsc_10_20"])
def test_lifted_gates_are_recovered(name):
    r = estimate_neural(lifted_gate(name, 600, 16, seed=11), **QUICK)
    for q in PARTS: assert abs(r.quantities[q].value-GATES[name][q]) < .09, (q, r.quantities[q])
    v = r.raw
    assert v["redundancy"]+v["unique_a"] == pytest.approx(v["information_a"], abs=1e-9) and v["redundancy"]+v["unique_b"] == pytest.approx(v["information_b"], abs=1e-9)
    assert sum(v[q] for q in PARTS) == pytest.approx(v["total"], abs=1e-9) and min(v["redundancy"], v["unique_a"], v["unique_b"]) > -1e-3
    for e in r.quantities.values(): assert e.low <= e.value <= e.high and e.n == 600


def test_unrelated_labels_tell_nothing_but_the_released_way_says_otherwise():
    rng = np.random.default_rng(3); x = rng.normal(size=(2, 300, 60)); y = np.arange(300) % 2
    ours, released = estimate_neural((*x, y), **QUICK), estimate_neural((*x, y), method="paper", **QUICK | dict(epochs=40))
    assert max(e.value for e in ours.quantities.values()) < .05 and ours.calibration["ab"]["before"] < 0
    assert released.quantities["total"].value > .1 and "weak_as_released" in released.notes


def test_no_record_is_judged_by_networks_that_saw_it():
    "Labels that only memory could know: each record is its own pattern."
    y = np.random.default_rng(4).integers(2, size=120); x = np.eye(120)
    logs = cross_fit(x, y[None], fold_of(y, 4)[None], 2, Recipe(epochs=60, patience=0))[0]
    for log_p in logs: assert log_p[np.arange(120), y].mean()/np.log(2) < -.9  # no better than a coin
    tell = neural.train_networks(x, y[None], [np.arange(120)], [np.arange(0)], 2, Recipe(epochs=60, patience=0))
    assert tell(0, np.arange(120))[np.arange(120), y].mean()/np.log(2) > -.1   # the same network could have memorised them


def test_same_seed_same_answer_and_threads_are_given_back():
    import torch
    before, data = torch.get_num_threads(), lifted_gate("and", 120, 8)
    one, two, other = (estimate_neural(data, seed=s, **QUICK) for s in (0, 0, 1))
    assert one.raw == two.raw and one.quantities == two.quantities and one.raw != other.raw and torch.get_num_threads() == before


class Killed(Exception): pass

def test_a_killed_run_goes_on_where_it_was(tmp_path):
    data, path, seen = lifted_gate("bsc_10_20", 200, 8), tmp_path/"run.npz", []
    whole = estimate_neural(data, **QUICK)
    def kill(done, total, what):
        if done == 4: raise Killed
    with pytest.raises(Killed): estimate_neural(data, resume=path, progress=kill, **QUICK)
    with np.load(path, allow_pickle=False) as f: assert len(f.files) == 5  # four units and the header
    original = neural.cross_fit
    neural.cross_fit = lambda *a, **k: seen.append(1) or original(*a, **k)
    try: resumed = estimate_neural(data, resume=path, progress=lambda *p: None, **QUICK)
    finally: neural.cross_fit = original
    assert len(seen) == 5 and resumed.raw == whole.raw and not list(tmp_path.glob(".part.*"))  # nine units in all
    with pytest.raises(InputError, match="other records"): estimate_neural(lifted_gate("and", 200, 8), resume=path, **QUICK)
    with pytest.raises(InputError, match="`seed` = 0, but now it is 3"): estimate_neural(data, resume=path, seed=3, **QUICK)


def test_a_checkpoint_from_outside_is_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self): return (pytest.fail, ("unpickled",))
    path, data = tmp_path/"bomb.npz", lifted_gate("and", 100, 4)
    np.savez(path, header=np.array([Bomb()], dtype=object))
    with pytest.raises(InputError, match="damaged"): estimate_neural(data, resume=path, **QUICK)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match="damaged"): estimate_neural(data, resume=path, **QUICK)
    with pytest.raises(InputError, match="folder"): estimate_neural(data, resume=tmp_path/"nowhere"/"x.npz", **QUICK)


def test_missing_cells_use_every_sample_for_what_it_can_tell():
    x_a, x_b, y = lifted_gate("all_equal", 300, 8); i = np.arange(300); label = [None if v % 10 == 0 else int(t) for v, t in zip(i, y)]
    some = MultimodalRecords({"a": np.where((i % 3 == 0)[:, None], np.nan, x_a), "b": np.where((i % 3 == 1)[:, None], np.nan, x_b)}, label=label)
    r = estimate_neural(some, **QUICK)
    assert r.mode == "supervised" and r.counts["n_aby"] < r.counts["n_ay"] and r.quantities["redundancy"].value > .9 and r.quantities["synergy"].value < .05
    apart = MultimodalRecords({"a": np.where((i % 2 == 0)[:, None], np.nan, x_a), "b": np.where((i % 2 == 1)[:, None], np.nan, x_b)}, label=y)
    r = estimate_neural(apart, **QUICK)
    assert r.mode == "semi-supervised" and set(r.quantities) == {"information_a", "information_b", "redundancy", "unique_a", "unique_b"}
    assert "not estimated" in r.summary() and "推定していません" in r.summary("ja") and len(r.verdicts()) == 2 and len(r.plot().patches) == 3


def test_a_result_travels_and_shows_itself(tmp_path):
    r = estimate_neural(lifted_gate("sum", 200, 8), **QUICK)
    again = NeuralResult.from_json(r.to_json())
    assert again.to_json() == r.to_json() and again.quantities == r.quantities and len(r.verdicts()) == 3 and "<table" in r._repr_html_("ja")
    page = r.save_html(tmp_path/"r.html", "ja").read_text(); assert "ニューラル推定" in page
    growing = neural.replace(r, notes=("weak_growing",), quantities=r.quantities | {"synergy": neural.Estimate(0., 0., .01, 0., 200)})
    assert growing.verdicts()[2].value == "not_enough_evidence" and "400" in growing.verdicts()[2].text("next_step", "ja")


@pytest.mark.parametrize("change, words", [
    (dict(folds=1), "`folds`"), (dict(n_boot=10), "`n_boot`"), (dict(method="papers"), "Did you mean `paper`"), (dict(batch_size=0), "`batch_size`"), (dict(seed=-1), "`seed`"),
    (dict(label="target"), "carry the label"), (dict(modalities=("a", "c")), "modalities"), (dict(modalities=("a", "a")), "twice"), (dict(modalities="a"), "Two modalities"), (dict(epochs=0), "`epochs`")])
def test_refusals_say_what_to_do(change, words):
    with pytest.raises(InputError, match=words): estimate_neural(lifted_gate("and", 100, 4), **(QUICK | change))


def test_data_that_will_not_do_is_refused():
    x_a, x_b, y = lifted_gate("and", 100, 4)
    with pytest.raises(InputError, match="at least 50"): estimate_neural((x_a[:30], x_b[:30], y[:30]), **QUICK)
    with pytest.raises(InputError, match="At least two classes"): estimate_neural((x_a, x_b, np.zeros(100)), **QUICK)
    with pytest.raises(InputError, match="folds need"): estimate_neural((x_a, x_b, np.where(np.arange(100) < 3, 9, y)), **QUICK | dict(folds=5))
    with pytest.raises(InputError, match="infinite"): estimate_neural((np.where(x_a > 2, np.inf, x_a), x_b, y), **QUICK)
    with warnings.catch_warnings(), pytest.raises(InputError, match="is the same in all"): warnings.simplefilter("ignore"); estimate_neural((np.ones_like(x_a), x_b, y), **QUICK)
    with warnings.catch_warnings(): # a constant column is left out
        warnings.simplefilter("ignore"); assert estimate_neural((np.hstack([x_a, np.ones((100, 1))]), x_b, y), **QUICK).quantities


def test_a_batch_larger_than_the_records_is_named():
    with pytest.warns(WeakInputWarning, match="Batches of 50"): r = estimate_neural(lifted_gate("and", 100, 4), method="network", **QUICK)
    assert r.method == "network" and set(r.quantities) == set(neural.NAMES)
