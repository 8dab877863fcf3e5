"Recovering orders: honest evidence, guidance only where it is safe, monitors that ring, people obeyed, refusals in words."
import dataclasses, warnings
import numpy as np
import pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.coherence.decode import decode_many
from mmkit.coherence.guidance import Alignment, Guided, align_elements, guide
from mmkit.coherence.recover import CoherenceResult, _sigmoid, evaluate, recover_order, watch
from mmkit.coherence.scores import score_orders
from mmkit.coherence.sequences import OrderedRecords, _like, synthetic_orders

def evidence(w): return [_sigmoid(s) for s in w.log_odds_a], [_sigmoid(s) for s in w.log_odds_b]
def play(n=130, n_known=80, seed=1, knobs=None, **options): w = synthetic_orders(n, seed=seed, **(knobs or {})); return w, recover_order(w.records, evidence=evidence(w), alignment=options.pop("alignment", w.aligned), known=np.arange(n) < n_known, **options)
def tau_of_new(w, r, side="a", start=80): s = w.records.side(side); return score_orders(r.sides[side].decoded[start:], [s.rank[s.rows(k)] for k in range(start, len(w.records))], n_boot=100).tau.value
def learnable(n=50, **kw): return synthetic_orders(n, **dict(dict(cueless=0, noise=(.5, .8), seed=2) | kw)).records
def one_side(r): return _like(r, b=None, links=None, pairing="none")
def with_ranks(r, side, ranks): s = r.side(side); return _like(r, **{side: dataclasses.replace(s, rank=ranks)})

@pytest.fixture(scope="module")
def good(): return play()

# ---- settings and the decision

def test_gold_is_at_least_weak_is_at_least_alone_on_planted_truth(good):
    w, r = good; gold = play(setting="GOLD")[1]
    for k in "ab": s = w.records.side(k); alone = score_orders(decode_many(r.sides[k].alone[80:]), [s.rank[s.rows(i)] for i in range(80, 130)], n_boot=100).tau.value; assert tau_of_new(w, gold, k) >= tau_of_new(w, r, k) >= alone
    assert {k: s.used for k, s in good[1].sides.items()} == {"a": "WEAK", "b": "WEAK"}

@pytest.mark.parametrize("knobs", [dict(reversed_partner=True), dict(alignment=.2), dict(noise=(.3, 20.)), dict(overconfident=True, alignment=.3)], ids=str)
def test_auto_is_never_worse_than_alone_beyond_tolerance(knobs):
    w, r = play(seed=3, knobs=knobs)
    for k in "ab": s = w.records.side(k); alone = score_orders(decode_many(r.sides[k].alone[80:]), [s.rank[s.rows(i)] for i in range(80, 130)], n_boot=100).tau.value; assert tau_of_new(w, r, k) > alone-.02, (knobs, k, r.why(k))

def test_an_unrelated_partner_is_refused():
    w = synthetic_orders(120, seed=1); a, b = evidence(w); r = recover_order(w.records, evidence=(a, b[1:]+b[:1]), alignment="key"); assert r.sides["a"].used == "UM" and r.weights["a"][1] < .5 and all((p == q).all() for p, q in zip(r.sides["a"].p, r.sides["a"].alone))

def test_too_few_known_orders_stay_alone_and_say_so():
    _, r = play(n_known=40); assert r.sides["a"].used == "UM" and "40 records" in r.why("a") and "50" in r.why("a", "ja") and play(n_known=40, min_validation=30)[1].sides["b"].used == "WEAK"

@pytest.mark.slow
def test_iterating_is_refused_on_a_poor_alignment():
    _, r = play(setting="ITER", knobs=dict(alignment=.5)); assert r.sides["a"].used == "WEAK" and "70 %" in r.why("a")
    _, r = play(setting="ITER", knobs=dict(alignment=.95), theta=(.8, .8)); assert {s.used for s in r.sides.values()} <= {"ITER", "WEAK", "UM"}

def test_what_was_asked_is_done_even_untested():
    w = synthetic_orders(30); r = recover_order(w.records, setting="WEAK", evidence=evidence(w), alignment="key", known=np.zeros(30, bool)); assert r.sides["a"].used == "WEAK" and "not tested" in r.why("a") and r.weights["a"] == (1., 1.) and "gain_a" not in r.quantities
    assert all(c["alarm"] is None for c in r.checks if c["monitor"] in ("precision", "flips", "calibration", "echo"))

def test_a_side_without_known_orders_can_listen():
    w = synthetic_orders(80, seed=1); r = recover_order(w.records, setting="WEAK", evidence=(evidence(w)[0], None), alignment="key"); s = w.records.b; assert all((p == .5).all() for p in r.sides["b"].alone)
    assert score_orders(r.sides["b"].decoded, w.records, "b", n_boot=100).tau.value > .3

# ---- honest evidence

def test_the_order_of_a_record_does_not_reach_its_own_evidence():
    r = one_side(learnable()); rank = r.a.rank.copy(); rank[r.a.rows(7)] = rank[r.a.rows(7)][::-1].copy(); x, y = (recover_order(v, setting="UM", parts=("ridge",), folds=3, seed=1).sides["a"].alone for v in (r, with_ranks(r, "a", rank))); moved = [not np.allclose(p, q, atol=.01) for p, q in zip(x, y)]
    assert not moved[7] and sum(moved) > 10  # others have learnt from it; the last digits move with the temperature, which is fitted on them

@pytest.mark.filterwarnings("ignore")
def test_unknown_orders_are_not_read():
    r = one_side(learnable()); known = np.arange(50) < 35; hidden = np.where(r.a.record < 35, r.a.rank, -1); x, y = (recover_order(v, setting="UM", parts=("ridge",), folds=3, known=known) for v in (r, with_ranks(r, "a", hidden)))
    assert all((p == q).all() for p, q in zip(x.sides["a"].p, y.sides["a"].p)) and x.quantities["tau_a"] == y.quantities["tau_a"] and tau_like(x, r) > .2

def tau_like(result, r): s = r.a; return score_orders(result.sides["a"].decoded[35:], [s.rank[s.rows(k)] for k in range(35, 50)], n_boot=100).tau.value

def test_renaming_changes_nothing():
    w = synthetic_orders(70, lengths=(4, 6), seed=5); pa, pb = evidence(w); rng = np.random.default_rng(0); move = [rng.permutation(n) for n in w.records.a.sizes]; at = np.concatenate([w.records.a.offsets[k]+m for k, m in enumerate(move)]); s = w.records.a
    r = _like(w.records, a=dataclasses.replace(s, rank=s.rank[at], handles=s.handles[at], text=s.text[at], images=s.images[at], features={k: v[at] for k, v in s.features.items()}), links=tuple(l[m] for l, m in zip(w.records.links, move)))
    x, y = recover_order(w.records, evidence=(pa, pb), alignment="key"), recover_order(r, evidence=([p[np.ix_(m, m)] for p, m in zip(pa, move)], pb), alignment="key"); assert x.sides["b"].used == y.sides["b"].used
    for k in "ab": assert all(x.order(i, k) == y.order(i, k) for i in x.ids)
    assert all(np.allclose(p[np.ix_(m, m)], q, atol=1e-6) for p, q, m in zip(x.sides["a"].p, y.sides["a"].p, move))

@pytest.mark.slow
def test_same_seed_same_answer(good): assert play()[1].to_json().split('"seconds"')[1].split("\n", 1)[1] == good[1].to_json().split('"seconds"')[1].split("\n", 1)[1]

@pytest.mark.slow
def test_learning_from_unknown_orders_is_only_kept_where_it_is_safe():
    r = learnable(45); options = dict(parts=("ridge",), folds=3, known=np.arange(45) < 25, alignment="key"); x, y, z = recover_order(r, label_poor=True, min_validation=20, **options), recover_order(r, label_poor=True, **options), recover_order(r, **options)
    assert x.settings.label_poor and all(np.allclose(p+p.T, 1) for p in x.sides["a"].p) and all((p == q).all() for p, q in zip(y.sides["a"].alone, z.sides["a"].alone))  # 25 known orders cannot show that it is safe

# ---- flips

def test_flips_are_the_pairs_that_turned_and_name_their_partner(good):
    w, r = good
    for k, o in ("ab", "ba"):
        s = r.sides[k]; n = sum(int(((x < .5) & (y > .5)).sum()) for x, y in zip(s.alone, s.p)); flips = [(i, f) for i, t in enumerate(s.flips) for f in t]; assert len(flips) == n > 0
        for i, f in flips: assert f.alone < .5 < f.guided and f.partner_p == r.sides[o].alone[i][f.partner] > .5 and f.alignment == 1 or f.alignment < 1 and f.partner_p > .5

# ---- people

def test_people_are_obeyed(good):
    w = good[0]; x, y, z = list(w.records.a.handles[w.records.a.rows(3)])[:3]; rules = {"a": {"r0003": dict(before=[(x, y), (y, z)], pinned={x: 1})}}; r = play(constraints=rules)[1]; o = r.order("r0003"); assert o.index(x) == 1 and o.index(x) < o.index(y) < o.index(z)
    assert all((p == q).all() for p, q in zip(r.sides["a"].p, good[1].sides["a"].p))
    with pytest.raises(InputError, match="goes in a circle"): play(constraints={"a": {"r0003": dict(before=[(x, y), (y, x)])}})
    with pytest.raises(InputError, match="at place 1"): play(constraints={"a": {"r0003": dict(pinned={x: 1, y: 1})}})

def test_result_faces(good):
    w, r = good; f = r.to_frame(); assert list(f.columns) == ["record", "side", "element", "place", "confidence", "margin", "guided"] and len(f) == 1300 and f.guided.any() and f.confidence.between(0, 1).all()
    assert r.summary("ja") != r.summary() and "ガイダンス" in r.summary("ja") and {"tau of a as used", "tau of b as used"} <= {v.text("what") for v in r.verdicts()} and {v.value for v in r.verdicts()} <= {"pass", "not_enough_evidence"}; html = r._repr_html_("ja"); assert "単独" in html
    again = CoherenceResult.from_json(r.to_json()); assert again.order("r0002") == r.order("r0002") and again.monitors.equals(r.monitors) and repr(again.sides["b"].flips) == repr(r.sides["b"].flips) and again.fingerprint == w.records.fingerprint and r.plot(language="ja") is not None
    assert evaluate(again.with_records(w.records), side="b").tau == evaluate(r, side="b").tau
    other = w.records; move = OrderedRecords.__new__(OrderedRecords); move.__dict__.update({**other.__dict__, "a": dataclasses.replace(other.a, features={k: v[::-1].copy() for k, v in other.a.features.items()})})
    with pytest.raises(InputError, match="shuffled with another seed"): again.with_records(move)

# ---- awkward data

@pytest.mark.filterwarnings("ignore")
def test_one_modality_single_elements_ties_copies_and_missing_partners():
    texts = [[{"text": t, "position": p, "key": i} for i, (t, p) in enumerate(zip((f"open {k}", f"fill {k}", f"fill {k}", f"close {k}"), (0, 1, 1, 2)))] for k in range(30)]; r = OrderedRecords([*texts, ["done"]], ids=[*map(str, range(30)), "one"])
    x = recover_order(r, parts=("ridge",), folds=3); assert x.sides["a"].used == "UM" and "no second modality" in x.why() and x.order("one") == [0] and evaluate(x).tau.value > .9 and list(x.sides) == ["a"] and not x.checks
    half = OrderedRecords([*texts, ["done"]], [*[t if k % 2 else t[:3] for k, t in enumerate(texts[:20])], *[[]]*11]); y = recover_order(half, parts=("ridge",), folds=3); assert y.sides["b"].decoded[25].order.shape == (0,) and y.alignment.how == "key" and len(y.to_frame().query("side == 'b'")) == 70
    assert CoherenceResult.from_json(y.to_json()).order("r0005") == y.order("r0005")

def test_more_elements_than_the_exact_limit_are_searched_and_say_so():
    r = OrderedRecords([[f"{i}" for i in range(15)]]); p = 1/(1+np.exp(np.subtract.outer(*[r.a.rank.astype(float)]*2)))
    with pytest.warns(WeakInputWarning, match="more than 14 elements"): x = recover_order(r, evidence=([p], None))
    assert not x.sides["a"].decoded[0].exact and x.order("r0000") == list(range(15))

def test_pictures_that_cannot_be_read_are_silent():
    r = OrderedRecords([[f"open {k}", f"fill {k}", f"close {k}"] for k in range(30)], [[np.full((4, 4, 3), 9*i+k, np.uint8) for i in range(3)] for k in range(30)])
    with pytest.warns(WeakInputWarning, match="neither text nor features"): x = recover_order(r, parts=("ridge",), folds=3)
    assert (x.sides["b"].alone[0] == .5).all() and x.sides["b"].used == "UM"

W = synthetic_orders(20, seed=0); P = evidence(W)
@pytest.mark.parametrize("options, words", [
    (dict(setting="best"), "setting"), (dict(theta=.8), "two numbers"), (dict(theta=(.2, .8)), "theta"), (dict(weight=(-1, 1)), "weight"), (dict(rounds=4), "rounds"), (dict(known=[True]*3), "one bool"), (dict(known=np.ones(20)), "one bool"), (dict(evidence=P[0]), "must be a pair"),
    (dict(evidence=(P[0][:4], None)), "has 4 matrices"), (dict(evidence=([np.full((3, 3), .5)]*20, None)), "has 5 elements"), (dict(evidence=([p*3 for p in P[0]], None)), "leave the range"), (dict(constraints=[1]), "must be a dict"), (dict(constraints={"c": {}}), "side"),
    (dict(constraints={"a": {"r9999": {}}}), "not there"), (dict(constraints={"a": {"r0001": dict(first=1)}}), "before"), (dict(constraints={"a": {"r0001": dict(pinned={"lid": 0})}}), "0 elements called 'lid'"), (dict(alignment="similar"), "Did you mean `similarity`"), (dict(method="sort"), "method"), (dict(parts=("tree",)), "parts")])
def test_refused_in_words(options, words):
    with pytest.raises(InputError, match=words): recover_order(W.records, **dict(dict(evidence=P, alignment="key") | options))

def test_refused_in_words_without_a_partner():
    r = OrderedRecords([["a b", "c d"]]*3, [["e", "f"]]*3, ids=list("xyz"))
    with pytest.raises(InputError, match="No order can be learnt"): recover_order(r)
    with pytest.raises(InputError, match="Nothing says which element"): recover_order(r, setting="WEAK", evidence=([np.full((2, 2), .5)]*3, None))
    with pytest.raises(InputError, match="`OrderedRecords` was expected"): recover_order([["a", "b"]])

# ---- monitors

def rings(checks): return {(c["monitor"], c["side"]) for c in checks if c["alarm"]}
def exactly(n): return Alignment(*([tuple(np.arange(4) for _ in range(n)), tuple(np.ones(4) for _ in range(n))]*2), "given")
def lists(n=40, seed=0): rng = np.random.default_rng(seed); return OrderedRecords([[{"text": f"{'x'*(9-i)} {k}", "position": p} for i, p in enumerate(range(4))] for k in range(n)], [[{"text": f"{i} {k}", "position": i} for i in range(4)] for k in range(n)], seed=seed)
def s_of(side, r, size=2., sign=1.): g = side.rank[side.rows(r)]; return sign*size*np.sign(np.subtract.outer(g, g).T).astype(float)
def made(r, a, b, spoke=None): n = len(r); every = [[np.ones((4, 4), bool)]*n]*(len(a)-1); return Guided({"a": a, "b": b}, {"a": a[1:], "b": b[1:]}, spoke or {"a": every, "b": every}, len(a)-1)

def test_monitors_ring_when_planted():
    r = lists(); right, wrong = [[s_of(s, k) for k in range(40)] for s in (r.a, r.b)], [[s_of(s, k, sign=-1.) for k in range(40)] for s in (r.a, r.b)]; more = lambda x, f: [f*m for m in x]; a = exactly(40); none = {(m, k) for m in ("flips", "loudness", "oscillation") for k in "ab"}
    assert not rings(watch(made(r, [right[0]]*3, [right[1]]*3), r, a)) & none
    assert ("flips", "a") in rings(watch(made(r, [right[0], wrong[0]], [right[1]]*2), r, a)) and ("precision", "a") in rings(watch(made(r, [wrong[0]]*2, [right[1]]*2), r, a))
    assert ("oscillation", "b") in rings(watch(made(r, [right[0]]*4, [right[1], wrong[1], right[1], wrong[1]]), r, a)) and ("loudness", "a") in rings(watch(made(r, [right[0], more(right[0], 3)], [right[1]]*2), r, a))
    few, all_ = [np.eye(4, k=1, dtype=bool)]*40, [np.ones((4, 4), bool)]*40; assert ("coverage", "a") in rings(watch(made(r, [right[0]]*3, [right[1]]*3, {"a": [few, all_], "b": [all_, all_]}), r, a))
    flat = [np.where(m > 0, .01, -.01)*(~np.eye(4, dtype=bool)) for m in wrong[0]]; assert ("calibration", "a") in rings(watch(made(r, [flat, more(wrong[0], 3)], [right[1]]*2), r, a))
    clash = Alignment(tuple(np.zeros(4, int) for _ in range(40)), a.trust_a, a.b_to_a, a.trust_b, "given"); assert ("collisions", "both") in rings(watch(made(r, [right[0]]*2, [right[1]]*2), r, clash))

def test_echo_stranger_and_cues_ring_when_planted():
    r = lists(); rng = np.random.default_rng(1); link = tuple(np.array([int(np.flatnonzero(r.b.rank[r.b.rows(k)] == g)[0]) for g in r.a.rank[r.a.rows(k)]]) for k in range(40)); a = Alignment(link, exactly(40).trust_a, tuple(np.argsort(l) for l in link), exactly(40).trust_b, "given")
    order = [rng.permutation(4) for _ in range(40)]; noise = [np.sign(np.subtract.outer(o, o).T)*1. for o in order]; follow = [m[np.ix_(np.argsort(l), np.argsort(l))] for m, l in zip(noise, link)]; other = [np.sign(np.subtract.outer(o, o).T)*1. for o in (rng.permutation(4) for _ in range(40))]
    assert ("echo", "both") in rings(watch(made(r, [noise, noise], [other, follow]), r, a, known={"a": np.ones(40, bool), "b": np.ones(40, bool)})) or score_orders([np.argsort(-m.sum(1)) for m in follow], r, "b", n_boot=100).tau.value > 0
    truth = [_sigmoid(s_of(r.a, k)) for k in range(40)]; assert ("stranger", "a") in rings(watch(made(r, [noise, noise], [other, other]), r, a, strangers={"a": truth})) and ("stranger", "a") not in rings(watch(made(r, [noise, noise], [other, other]), r, a, strangers={"a": [_sigmoid(m) for m in noise]}))
    shortest = [np.array([len(t) for t in r.a.text[r.a.rows(k)]]) for k in range(40)]; cue = [2.*np.sign(np.subtract.outer(v, v).T) for v in shortest]; assert ("first", "a") in rings(watch(made(r, [cue, cue], [other, other]), r, a))

def test_the_monitors_of_a_good_run_are_quiet(good): assert not rings(good[1].checks) and list(good[1].monitors.columns) == ["monitor", "side", "value", "limit", "alarm", "words"] and not set(good[1].monitor_frame("ja").words) - {"警報なし", "ここでは測定できません"}
