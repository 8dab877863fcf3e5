"Decoders and scores: exact where they say so, blind to names, at chance with a coin, obedient to people, right about ties."
import itertools, math, warnings
import numpy as np
import pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.coherence.decode import EXACT, METHODS, Decoded, decode, decode_many, is_cyclic, log_odds
from mmkit.coherence.scores import calibration_error, paired_gain, score_orders, scores_by_length
from mmkit.coherence.sequences import OrderedRecords, help_steps, synthetic_orders
from mmkit.results import from_plain, to_plain

def random_p(rng, b, n): x = rng.random((b, n, n)); up = np.triu(x, 1); return up+np.tril(1-up.transpose(0, 2, 1), -1)
def coin(rng, b, n): return np.round(random_p(rng, b, n))
def renamed(p, names): return p[np.ix_(names, names)]
def value(s, o): return s[np.ix_(o, o)][np.triu_indices(len(o), 1)].sum()

# exactness

@pytest.mark.parametrize("n", [2, 3, 4, 6, 7])
def test_best_and_second_best_against_all_orders(n):
    for p in random_p(np.random.default_rng(n), 8 if n < 7 else 2, n):
        d, s = decode(p), log_odds(p); all_ = sorted((value(s, o) for o in itertools.permutations(range(n))), reverse=True)
        assert d.score == all_[0] == value(s, d.order) and d.margin == all_[0]-all_[1] and value(s, d.second) == all_[1] and d.exact

@pytest.mark.parametrize("n", [10, 13, 14])
def test_long_records_exactly(n):
    rng = np.random.default_rng(n); true = rng.permutation(n); t = np.argsort(true); d = decode(1/(1+np.exp(-.6*(t[None]-t[:, None])))) # consistent evidence: the order is known, the second-best swaps two neighbours
    assert (d.order == true).all() and d.margin == pytest.approx(1.2, abs=1e-6) and not d.cyclic and sum(d.order != d.second) == 2

def test_kemeny_agrees_most_on_every_draw():
    rng = np.random.default_rng(0)
    for n in (4, 6, 8):
        p = random_p(rng, 60, n); best = [d.score for d in decode_many(p)]
        for m in ("borda", "topo", "beam"): assert all(b >= d.score for b, d in zip(best, decode_many(p, m, width=16)))
        assert all(b >= d.score for b, d in zip(best, decode_many(p, "topo", compat="paper")))

def test_batch_equals_one_by_one():
    rng = np.random.default_rng(1); ps = [*random_p(rng, 5, 5), *random_p(rng, 4, 3), *random_p(rng, 3, 7)]; ps = [ps[i] for i in rng.permutation(12)]
    for m in METHODS: assert [tuple(d.order) for d in decode_many(ps, m)] == [tuple(decode(p, m).order) for p in ps]
    fixed = decode_many(ps, constraints={3: dict(pinned={0: 2})}); assert fixed[3].order[2] == 0 and [tuple(d.order) for k, d in enumerate(fixed) if k != 3] == [tuple(d.order) for k, d in enumerate(decode_many(ps)) if k != 3]

# names

@pytest.mark.parametrize("method", METHODS)
def test_renaming_changes_nothing(method):
    rng = np.random.default_rng(2)
    for p in random_p(rng, 40, 6): names = rng.permutation(6); assert (names[decode(renamed(p, names), method, seed=1).order] == decode(p, method).order).all()

def test_renaming_keeps_score_and_margin_to_the_last_digit():
    rng = np.random.default_rng(3)
    for p in coin(rng, 30, 7): a, b = decode(p), decode(renamed(p, rng.permutation(7))); assert (a.score, a.margin, a.cyclic) == (b.score, b.margin, b.cyclic)

@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [3, 5, 8])
def test_a_coin_is_at_chance(method, n):
    b = 1500 if method in ("kemeny", "borda") else 300; s = score_orders(decode_many(coin(np.random.default_rng([4, n]), b, n), method, width=8), [np.arange(n)]*b, n_boot=200)  # gold order = numbers: a leak through names would show
    assert abs(s.tau.value) < 4*math.sqrt(2*(2*n+5)/(9*n*(n-1))/b) and abs(s.accuracy.value-1/n) < 4.5/math.sqrt(n*b) and abs(s.pmr.value-1/math.factorial(n)) < 4.5*math.sqrt(1/math.factorial(n)/b)

@pytest.mark.parametrize("method", METHODS)
def test_no_evidence_is_a_fair_draw(method):
    first = np.bincount([decode(np.full((4, 4), .5), method, seed=s).order[0] for s in range(200)], minlength=4); assert abs(first-50).max() < 32 and decode(np.full((4, 4), .5)).margin == 0
    assert (decode(np.full((6, 6), .5), method, seed=3).order == decode(np.full((6, 6), .5), method, seed=3).order).all()

def test_the_released_decoder_rewards_true_numbers_only():
    p = coin(np.random.default_rng(5), 800, 5); names = np.random.default_rng(6).permuted(np.tile(np.arange(5), (800, 1)), axis=1); kw = dict(method="topo", compat="paper")
    leak = score_orders(decode_many(p, **kw), [np.arange(5)]*800, n_boot=100); fair = score_orders([k[d.order] for k, d in zip(names, decode_many([renamed(m, k) for m, k in zip(p, names)], **kw))], [np.arange(5)]*800, n_boot=100)
    assert .35 < leak.tau.value < .42 and abs(fair.tau.value) < .06
    t = np.arange(5); straight = [renamed(1/(1+np.exp(t[:, None]-t)), k) for k in names[:50]]; assert all((decode(q, **kw).order == decode(q).order).all() for q in straight)  # no circle, no inflation

# people

def test_a_beam_obeys_on_long_records():
    rng = np.random.default_rng(7); p = random_p(rng, 1, 22)[0]; true = rng.permutation(22); before = list(zip(true[:-1:3].tolist(), true[1::3].tolist())); pinned = {int(true[0]): 0, int(true[9]): 9, int(true[21]): 21}
    for m in ("beam", "borda", "topo"): d = decode(p, m, before, pinned); assert all(d.place[i] < d.place[j] for i, j in before) and all(d.place[i] == k for i, k in pinned.items())
    with pytest.warns(WeakInputWarning, match="22, too many for the exact search|22.*too many"): d = decode(p, before=before, pinned=pinned)
    assert d.method == "beam" and not d.exact and all(d.place[i] < d.place[j] for i, j in before)

def test_constraints_at_full_length():
    rng = np.random.default_rng(8); p = random_p(rng, 1, 14)[0]; chain = rng.permutation(14); d = decode(p, before=list(zip(chain[:-1].tolist(), chain[1:].tolist()))); assert (d.order == chain).all() and d.margin == math.inf and d.second is None
    d = decode(p, pinned=dict(enumerate(chain.tolist()))); assert (d.place == chain).all()

@pytest.mark.parametrize("kw, words", [(dict(before=[(0, 1), (1, 0)]), "circle: element 0 before element 1 before element 0"), (dict(before=[(2, 2)]), "circle"), (dict(pinned={0: 1, 2: 1}), "element 0 at place 1; element 2 at place 1"),
    (dict(pinned=[(0, 1), (0, 2)]), "element 0 at place 1; element 0 at place 2"), (dict(before=[(0, 1)], pinned={0: 3, 1: 2}), "element 0 before element 1"), (dict(pinned={0: 4}), "a place in `pinned`"), (dict(before=[(0, 9)]), "elements 0 to 3"),
    (dict(before=[(0, 1), (2, 1), (3, 2)], pinned={1: 2}), "element 1 at place 2"), (dict(before=[3]), "list of pairs"), (dict(before=[("a", 1)]), "no element"), (dict(pinned={True: 0}), "no element"), (dict(names=["a"], before=[(0, 1)]), "`names` has 1")])
def test_contradictions_are_named(kw, words):
    with pytest.raises(InputError, match=words): decode(np.full((4, 4), .5), **kw)

def test_only_the_conflict_is_named():
    with pytest.raises(InputError) as e: decode(np.full((6, 6), .5), before=[(0, 1), (4, 5), (3, 5)], pinned={1: 0, 2: 4})
    assert "element 0 before element 1; element 1 at place 0." in str(e.value) and "5" not in str(e.value)

# bad input

@pytest.mark.parametrize("p, words", [(np.zeros((2, 3)), "shape"), (np.zeros((0, 0)), "shape"), ([["a", "b"], ["c", "d"]], "not numbers"), ([[0, np.nan], [.5, 0]], "nan"), ([[0, 1.5], [.5, 0]], "1.5"), ([[0, -.1], [.5, 0]], "-0.1"), (np.zeros(3), "shape")])
def test_bad_matrices(p, words):
    with pytest.raises(InputError, match=words): decode(p)

def test_bad_options():
    p = np.full((3, 3), .5)
    for kw in (dict(method="best"), dict(seed=-1), dict(width=0), dict(compat="paper"), dict(method="topo", compat="code")): pytest.raises(InputError, decode, p, **kw)
    with pytest.raises(InputError, match="Use `decode`"): decode_many(p)
    with pytest.raises(InputError, match="names record 4"): decode_many([p], constraints={4: dict(before=[(0, 1)])})

def test_certain_and_contradictory_evidence():
    d = decode([[0, 1, 1], [0, 0, 1], [0, 0, 0]]); assert (d.order == [0, 1, 2]).all() and np.isfinite(d.score) and d.confidence > .999 and d.disagreement == 0
    assert decode([[0, .9], [.9, 0]]).disagreement == pytest.approx(.8) and decode([[7., .9], [.1, np.nan]]).order.tolist() == [0, 1]  # the diagonal does not matter

def test_input_is_left_alone(): p = random_p(np.random.default_rng(0), 1, 4)[0]; q = p.copy(); decode(p); assert (p == q).all()

def test_json(): d = decode(random_p(np.random.default_rng(0), 1, 4)[0]); e = from_plain(to_plain(d)); assert isinstance(e, Decoded) and (e.order == d.order).all() and e.margin == d.margin

# cycles

def test_cyclic_against_all_orders():
    rng = np.random.default_rng(9); p = coin(rng, 60, 4); p[:20][rng.random((20, 4, 4)) < .4] = .5; s = log_odds(p)
    brute = [not any((np.triu(m[np.ix_(o, o)], 1) >= 0).all() for o in itertools.permutations(range(4))) for m in s]; assert is_cyclic(s).tolist() == brute and 0 < np.mean(brute) < 1

# scores

def longest(q): return max(len(c) for k in range(len(q)+1) for c in itertools.combinations(q, k) if all(x <= y for x, y in zip(c, c[1:])))

def test_scores_by_hand():
    rng = np.random.default_rng(10); gold = [rng.integers(0, 4, 5) if k % 2 else rng.permutation(5) for k in range(30)]; pred = [rng.permutation(5) for _ in gold]; s = score_orders(pred, gold, n_boot=100); q = [g[o] for g, o in zip(gold, pred)]
    pairs = [[(x < y) for x, y in itertools.combinations(r, 2) if x != y] for r in q]; ok = [k for k, v in enumerate(pairs) if v]
    assert s.accuracy.value == pytest.approx(np.mean([(np.sort(q[k]) == q[k]).mean() for k in ok])) and s.tau.value == pytest.approx(np.mean([2*np.mean(pairs[k])-1 for k in ok])) and s.pmr.value == pytest.approx(np.mean([all(pairs[k]) for k in ok]))
    assert s.lcs.value == pytest.approx(np.mean([longest(q[k])/5 for k in ok])) and s.pair_accuracy.value == pytest.approx(np.mean(sum((pairs[k] for k in ok), [])))

@pytest.mark.parametrize("ranks", [(0, 1, 2, 3), (0, 0, 1, 2), (0, 1, 1, 1), (0, 0, 1, 1, 2)])
def test_chance_is_what_random_orders_get(ranks):
    rng = np.random.default_rng(11); b = 3000; s = score_orders([rng.permutation(len(ranks)) for _ in range(b)], [np.array(ranks)]*b, n_boot=200)
    for e in (s.accuracy, s.pmr, s.tau, s.pair_accuracy, s.lcs, s.within_1): assert abs(e.value-e.chance) < 2.5*(e.high-e.low)/2+.01, e

def test_swapping_copies_is_no_error():
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); r = OrderedRecords([["stir", "wait", "stir", "serve"]]*25)
    for first in (0, 1):
        orders = []
        for k in range(25): text = list(r.a.text[r.a.rows(k)]); stirs = [i for i, t in enumerate(text) if t == "stir"]; orders.append(np.array([stirs[first], text.index("wait"), stirs[1-first], text.index("serve")]))
        s = score_orders(orders, r, n_boot=100); assert (s.accuracy.value, s.pmr.value, s.tau.value) == (1, 1, 1) and s.accuracy.chance > .3 and s.pair_accuracy.n == 25

@pytest.mark.filterwarnings("ignore:Only 1 independent")
def test_unknown_and_single_records_are_left_out():
    s = score_orders([[0], [1, 0], [0, 1], [0, 1]], [[0], [-1, -1], [0, 0], [0, 1]], n_boot=100); assert s.skipped == 3 and s.tau.n == 1 and np.isnan(s.taus[:3]).all()

def test_groups_widen_the_interval():
    rng = np.random.default_rng(12); gold = [np.arange(5)]*200; pred = [rng.permutation(5) for _ in range(40)]*5; wide = score_orders(pred, gold, groups=list(range(40))*5); tight = score_orders(pred, gold)
    assert wide.tau.high-wide.tau.low > 1.7*(tight.tau.high-tight.tau.low) and wide.tau.value == tight.tau.value
    with pytest.warns(WeakInputWarning, match="Only 5 independent groups"): score_orders(pred, gold, groups=list(range(5))*40)

@pytest.mark.parametrize("pred, gold", [([[0, 1]], [[0, 1], [0, 1]]), ([[0, 2]], [[0, 1]]), ([[0., 1.]], [[0, 1]]), ([[0, 1]], [["a", "b"]]), ([[0]], [[0]])])
def test_bad_orders(pred, gold):
    with pytest.raises(InputError): score_orders(pred, gold)

def test_calibration_needs_pairs_that_count():
    with pytest.raises(InputError): calibration_error([np.full((2, 2), .5)], [[0, 0]])
    with pytest.raises(InputError): calibration_error([np.full((3, 3), .5)], [[0, 1]])
    p = [np.array([[.5, .8], [.2, .5]])]*100; e = calibration_error(p, [[0, 1]]*80+[[1, 0]]*20); assert e.value == pytest.approx(0, abs=1e-6) and calibration_error(p, [[1, 0]]*100).value == pytest.approx(.8)

def test_paired_gain():
    x = np.random.default_rng(13).normal(.5, .3, 80); g = paired_gain(x+.05, x); assert g.safe and g.gain.value == pytest.approx(.05) and g.error < 1e-9 and not paired_gain(x, x+.05).safe
    for bad in ((x, x[:5]), (x[:1], x[:1])): pytest.raises(InputError, paired_gain, *bad)
    x[3] = np.nan; assert paired_gain(x, x).gain.n == 79

def test_lengths(): rows = scores_by_length([np.arange(n) for n in (2, 3, 3)], [np.arange(n) for n in (2, 3, 3)]); assert [(r["length"], r["records"], r["pmr"]) for r in rows] == [(2, 1, 1), (3, 2, 1)]

def test_everything_by_its_door():
    r = help_steps(rows=30, seed=1); truth = [np.argsort(r.a.rank[r.a.rows(k)]) for k in range(30)]; assert score_orders(truth, r).tau.value == 1 and score_orders([np.arange(n) for n in r.a.sizes], r, p=[np.full((n, n), .5) for n in r.a.sizes]).cyclic == 0

def test_the_specified_simulation_at_round_0():
    w = synthetic_orders(1200, seed=7)  # specification, section 13: text .509, picture .382, from 4,000 records
    for odds, side, wanted in ((w.log_odds_a, "a", .509), (w.log_odds_b, "b", .382)):
        s = score_orders(decode_many([1/(1+np.exp(-m)) for m in odds]), w.records, side, n_boot=100); assert abs(s.tau.value-wanted) < .05, s.tau
