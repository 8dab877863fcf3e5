"Alignment and guidance: planted partners are found, names carry nothing, a stranger cannot help, nothing is heard twice, refusals in words."
import dataclasses
import numpy as np
import pytest
from mmkit.checks import InputError
from mmkit.coherence.decode import decode_many
from mmkit.coherence.guidance import Alignment, _inverse, align_elements, fit_weight, guide, precision_of
from mmkit.coherence.recover import _sigmoid
from mmkit.coherence.scores import score_orders
from mmkit.coherence.sequences import OrderedRecords, synthetic_orders

def evidence(w): return [_sigmoid(s) for s in w.log_odds_a], [_sigmoid(s) for s in w.log_odds_b]
def latent(n=40, shared=True, seed=0, noise=.1, extra=0, **kw):
    "Steps and photos that show the same thing, in one space or in two."
    rng = np.random.default_rng(seed); z = [rng.normal(size=(4, 6)) for _ in range(n)]; turn = np.eye(6) if shared else rng.normal(size=(6, 6)); see = lambda v, m: {"features": {"v": v @ m+noise*rng.normal(size=6)}}
    return OrderedRecords([[{**see(v, np.eye(6)), "key": i} for i, v in enumerate(x)] for x in z], [[{**see(v, turn), "key": i} for i, v in enumerate(x)]+[{"features": {"v": rng.normal(size=6)}}]*extra for x in z], **{"pairing": "soft", **kw})

def test_similar_partners_are_found():
    a = align_elements(latent(), "similarity"); assert a.accuracy.low > .9 and a.collisions == 0 and a.calibrated and np.mean(np.concatenate(a.trust_a)) > .9

def test_a_map_is_learnt_where_the_spaces_differ():
    r = latent(shared=False); a = align_elements(r, known=np.arange(40) < 30); assert a.how == "learned" and a.accuracy.value > .8
    new = np.mean([(p == l).mean() for p, l in zip(a.a_to_b[30:], r.links[30:])]); assert new > .8 and align_elements(r, "similarity").accuracy.value < .5

def test_links_that_may_not_be_used_are_not_used():
    r = latent(shared=False); wrong = object.__new__(OrderedRecords); wrong.__dict__.update({**r.__dict__, "links": tuple(l if k < 30 else np.roll(l, 1) for k, l in enumerate(r.links))}); known = np.arange(40) < 30
    assert all((x == y).all() for x, y in zip(align_elements(r, known=known).a_to_b, align_elements(wrong, known=known).a_to_b))

@pytest.mark.filterwarnings("ignore")
def test_left_over_and_empty_elements_are_silent():
    a = align_elements(latent(extra=2), "similarity"); assert a.collisions == 0 and all((p >= 0).sum() == 4 and (p < 0).sum() == 2 for p in a.b_to_a)
    nothing = OrderedRecords([[{"features": [1., 0.]}, "only words"]], [[{"features": [1., 0.]}, {"features": [0., 1.]}]], pairing="soft"); assert not align_elements(nothing).calibrated and sorted(align_elements(nothing).a_to_b[0].tolist())[0] == -1

def test_trust_is_the_share_that_is_right():
    w = synthetic_orders(300, alignment=.6, seed=2); a = align_elements(w.records, given=w.aligned); assert abs(np.mean(np.concatenate(a.trust_a))-.6) < .04 and a.accuracy.low < .6 < a.accuracy.high

@pytest.mark.parametrize("compat", [None, "paper"])
def test_renaming_changes_nothing(compat):
    w = synthetic_orders(30, alignment=.7, seed=1); pa, pb = evidence(w); a = align_elements(w.records, given=w.aligned); rng = np.random.default_rng(0); i, j = ([rng.permutation(5) for _ in range(30)] for _ in "ab")
    move = lambda ps, k: [p[np.ix_(o, o)] for p, o in zip(ps, k)]; maps = lambda x, own, other: tuple(np.where(m[o] >= 0, np.argsort(t)[m[o]], -1) for m, o, t in zip(x, own, other)); turn = lambda x, k: tuple(m[o] for m, o in zip(x, k))
    b = Alignment(maps(a.a_to_b, i, j), turn(a.trust_a, i), maps(a.b_to_a, j, i), turn(a.trust_b, j), "given"); g, h = guide(pa, pb, a, rounds=3, compat=compat), guide(move(pa, i), move(pb, j), b, rounds=3, compat=compat)
    for k, names in (("a", i), ("b", j)):
        for t in range(4): assert all(np.allclose(x[np.ix_(o, o)], y, atol=1e-6) for x, y, o in zip(g.s[k][t], h.s[k][t], names))

def test_what_is_heard_is_antisymmetric_capped_and_heard_once():
    w = synthetic_orders(60, alignment=.8, seed=1); g = guide(*evidence(w), align_elements(w.records, given=w.aligned), rounds=3, cap=1.5, weight=(.5, 2.))
    for k, most in (("a", 3.), ("b", .75)):
        assert all(np.allclose(m, -m.T) and np.abs(m).max() <= most+1e-9 for t in g.heard[k] for m in t); assert all((x == y).all() for x, y in zip(g.s[k][1], g.s[k][3]))

def test_no_weight_no_guidance():
    w = synthetic_orders(20); g = guide(*evidence(w), align_elements(w.records, "key"), weight=(0, 0)); assert all((x == y).all() for k in "ab" for x, y in zip(*g.s[k]))

def test_a_stranger_cannot_help():
    w = synthetic_orders(400, cueless=0, seed=7); pa, pb = evidence(w); r, shift = w.records, np.roll(np.arange(400), 1); own, other = guide(pa, pb, align_elements(r, "key")), guide(pa, [pb[k] for k in shift], align_elements(r, "key"))
    taus = {n: score_orders(decode_many(g.p("a")), r, n_boot=100).tau.value for n, g in (("own", own), ("other", other))}; alone = score_orders(decode_many(pa), r, n_boot=100).tau.value
    assert taus["own"] > alone+.02 and taus["other"] < alone and fit_weight(other.s["a"][0], other.heard["a"][0], r)[1] < .15 < fit_weight(own.s["a"][0], own.heard["a"][0], r)[1]

def test_lengths_may_differ_and_one_side_may_be_empty():
    p = lambda n: np.where(np.triu(np.ones((n, n)), 1) > 0, .8, np.where(np.tril(np.ones((n, n)), -1) > 0, .2, .5)); maps = (np.array([1, -1, 0]), np.zeros(0, int), np.array([-1])); back = (_inverse(maps[0], 2), np.zeros(0, int), np.full(4, -1)); one = lambda x: tuple((v >= 0)*1. for v in x)
    g = guide([np.full((3, 3), .5), np.zeros((0, 0)), np.full((1, 1), .5)], [p(2), np.zeros((0, 0)), p(4)], Alignment(maps, one(maps), back, one(back), "given")); assert g.p("a")[0][2, 0] == pytest.approx(.8) and np.allclose(g.p("a")[0][1], .5) and g.p("b")[2].shape == (4, 4)

def test_selection_is_the_same_for_both_directions_except_in_the_released_training():
    w = synthetic_orders(40, seed=3); a = align_elements(w.records, "key"); ours, theirs = guide(*evidence(w), a, theta=(.8, .8)), guide(*evidence(w), a, compat="paper train")
    assert all((m == m.T).all() for m in ours.spoke["a"][0]) and not any((m & m.T).any() for m in theirs.spoke["a"][0]); hits = precision_of(ours, w.records, "a"); assert hits[:, 0].sum()/hits[:, 1].sum() > .85

W = synthetic_orders(20, seed=0); P = evidence(W); KEY = align_elements(W.records, "key")
@pytest.mark.parametrize("make, words", [
    (lambda: guide(P[0], P[1][:5], KEY), "has 20 records"), (lambda: guide([p*2 for p in P[0]], P[1], KEY), "leave the range"), (lambda: guide([np.full((5, 5), np.nan)]*20, P[1], KEY), "leave the range"), (lambda: guide([np.full((4, 4), .5)]*20, P[1], KEY), "elements of `a`"),
    (lambda: guide(*P, KEY, theta=(.4, .8)), "theta"), (lambda: guide(*P, KEY, compat="papr"), "Did you mean `paper`"), (lambda: guide(*P, KEY, rounds=-1), "rounds"), (lambda: guide(*P, KEY, cap=-1), "cap"), (lambda: align_elements(W.records, "magic"), "how"),
    (lambda: align_elements(W.records, given=[np.zeros(5, int)]*3), "3 entries"), (lambda: align_elements(W.records, given=[np.full(5, .5)]*20), "were expected"), (lambda: align_elements(W.records, known=np.ones(3, bool)), "shape"), (lambda: align_elements(OrderedRecords([["a", "b"]], [["c", "d"]], pairing="soft")), "Nothing connects"),
    (lambda: align_elements(OrderedRecords([["a", "b"]], [["c", "d"]])), "nothing to align"), (lambda: align_elements(OrderedRecords([["a", "b"]], [["c", "d"]], pairing="soft"), "key"), "no keys")])
def test_refused_in_words(make, words):
    with pytest.raises(InputError, match=words): make()
