"The order model: blind to the order of its input, honest about what it has not seen, refuses in words."
import numpy as np
import pytest
from mmkit.checks import InputError
from mmkit.coherence.order import LEAST, _Views, fit_order, study_order
from mmkit.coherence.scores import score_orders
from mmkit.coherence.sequences import OrderedRecords, help_steps, synthetic_orders
from mmkit.coherence.decode import decode_many

ALL = ("ridge", "trees", "network")
def world(n, seed=1, **kw): return synthetic_orders(n, **dict(dict(cueless=0, noise=(.4, 1.6), seed=seed) | kw)).records

@pytest.fixture(scope="module")
def full():
    pytest.importorskip("torch"); r = world(LEAST+60); return fit_order(r.select(np.arange(LEAST+20)), parts=ALL), r.select(np.arange(LEAST+20, LEAST+60))

def test_all_parts_take_part_and_the_sum_is_consistent(full):
    m, new = full; assert m.parts == ("ridges", "trees", "network"); p = m.predict(new)
    assert all(np.allclose(v+v.T, 1) for v in p) and score_orders(decode_many(p), new, n_boot=100).tau.low > .3

def test_predictions_do_not_depend_on_the_order_of_the_input(full):
    m, new = full; p = m.predict(new); rng = np.random.default_rng(0); move = [rng.permutation(5) for _ in range(len(new))]; at = np.concatenate([new.a.offsets[r]+k for r, k in enumerate(move)])
    import dataclasses; side = dataclasses.replace(new.a, text=new.a.text[at], images=new.a.images[at], features={k: v[at] for k, v in new.a.features.items()}, rank=new.a.rank[at], handles=new.a.handles[at])
    twin = object.__new__(OrderedRecords); twin.__dict__.update({**new.__dict__, "a": side})
    for q, v, k in zip(m.predict(twin), p, move): assert np.allclose(q, v[np.ix_(k, k)], atol=1e-5)

def test_truth_is_not_read_when_predicting(full):
    m, new = full; import dataclasses; twin = object.__new__(OrderedRecords); twin.__dict__.update({**new.__dict__, "a": dataclasses.replace(new.a, rank=np.full(len(new.a.rank), -1), handles=new.a.handles[::-1])})
    assert all((a == b).all() for a, b in zip(m.predict(twin), m.predict(new)))

@pytest.mark.slow
def test_same_seed_same_model(full):
    m, new = full; again = fit_order(world(LEAST+60).select(np.arange(LEAST+20)), parts=ALL); assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(m.predict(new), again.predict(new)))

def test_a_record_is_judged_without_its_companions(full):
    m, new = full; assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(m.predict(new.select([3, 7])), [m.predict(new)[k] for k in (3, 7)]))

def test_shuffled_truth_gives_chance():
    import dataclasses; r = help_steps("en", rows=90); rng = np.random.default_rng(0); twin = object.__new__(OrderedRecords)
    twin.__dict__.update({**r.__dict__, "a": dataclasses.replace(r.a, rank=np.concatenate([rng.permutation(n) for n in r.a.sizes]))}); s = study_order(twin, folds=3, n_boot=100); assert s.model.tau.low < .02 and s.model.calibration.value < .15

def test_unlabelled_records_are_left_out_and_predicted():
    lists = [[f"open {i}", f"fill {i}", f"close {i}"] for i in range(20)]; positions = [[{"text": t, "position": k} for k, t in enumerate(l)] for l in lists]
    r = OrderedRecords([*positions, ["close x", "open y", "fill z"]], ordered=False); m = fit_order(r, parts=("ridge",)); q = m.predict(r)[20]; text = list(r.a.text[r.a.rows(20)])
    assert m.n == 20 and q[text.index("open y"), text.index("close x")] > .6 and q[text.index("fill z"), text.index("open y")] < .5

@pytest.mark.parametrize("make, words", [(lambda: fit_order(world(5)), "at least 8"), (lambda: fit_order(world(20), parts=("magic",)), "parts"), (lambda: fit_order(world(20), "c"), "side"), (lambda: fit_order(OrderedRecords([["a b", "c d"]]*20, groups=["g"]*20)), "1 groups"),
    (lambda: fit_order(OrderedRecords([["a", "b"]]*20, ordered=False)), "0 records"), (lambda: _Views(OrderedRecords([[np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)]]).a), "neither text nor features"),
    (lambda: fit_order(world(20), parts=("ridge",)).predict(help_steps(rows=3)), "which `en` lacks")])
def test_refused_in_words(make, words):
    with pytest.raises(InputError, match=words): make()

def test_no_cue_no_claim():
    m = fit_order(world(60, cueless=1.), parts=("ridge",)); assert np.mean([np.abs(v-.5).mean() for v in m.predict(world(40, seed=9, cueless=1.))]) < .12

def test_a_view_that_says_nothing_hardly_harms_the_mean():
    r = world(140); rng = np.random.default_rng(0); noisy = r.with_features("a", "noise", rng.normal(size=(len(r.a.text), 30))); f = lambda r: study_order(r, folds=3, n_boot=100).model.tau.value
    assert f(noisy) > f(r)-.12

def test_nearness_finds_an_order_that_no_line_has():
    rng = np.random.default_rng(0); turn = lambda k: [[np.cos(1.6*k+.3*e), np.sin(1.6*k+.3*e)] for e in rng.normal(size=1)][0]  # the time runs round a circle
    r = OrderedRecords([[{"features": {"angle": np.array(turn(k))}, "position": k} for k in range(4)] for _ in range(60)], ordered=False); s = study_order(r, folds=3, n_boot=100)
    assert s.gain.gain.low > 0 and s.model.tau.value > .6
