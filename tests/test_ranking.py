"Ranking: against brute force, ties, hubs, any block, any order, and everything that is refused."
import json, warnings
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import linear_sum_assignment
from mmkit.checks import InputError, WeakInputWarning
from mmkit.entities import ranking
from mmkit.entities.ranking import RankScores, assign, check_scoring, csls, match_posterior, mean_ranks, score_assignment, score_links, score_ranks, top_candidates

def rng(seed=0): return np.random.default_rng(seed)
def whole(n_a, n_b, d=4, seed=0, most=2): # whole numbers: float32 is exact, and there are many ties
    r = rng(seed); return r.integers(-most, most+1, (n_a, d)).astype(np.float32), r.integers(-most, most+1, (n_b, d)).astype(np.float32)
def real(n_a, n_b, d=8, seed=0): r = rng(seed); return r.normal(size=(n_a, d)).astype(np.float32), r.normal(size=(n_b, d)).astype(np.float32)
def diagonal(n): return np.stack([np.arange(n)]*2, 1)
def in_order(s, k): return np.argsort(-s, axis=1, kind="stable")[:, :k]

sizes = given(n_a=st.integers(1, 40), n_b=st.integers(1, 300), k=st.integers(1, 12), most=st.integers(0, 3), seed=st.integers(0, 999), block=st.one_of(st.none(), st.integers(1, 50)))

# ---- candidates

@sizes
@settings(max_examples=60, deadline=None)
def test_candidates_are_those_of_a_full_sort(n_a, n_b, k, most, seed, block):
    z_a, z_b = whole(n_a, n_b, seed=seed, most=most); s = z_a @ z_b.T; p, v = top_candidates(z_a, z_b, k, block=block)
    assert p.tolist() == in_order(s, k).tolist() and v.tolist() == np.take_along_axis(s, p, 1).tolist() and p.dtype == np.int64 and v.dtype == np.float32

@pytest.mark.parametrize("order", ["rising", "falling", "random", "one group"])
def test_groups_of_columns_never_lose_a_candidate(order):
    n, k = 5000, 7; v = np.arange(n, dtype=np.float32) # w = n//(16k) = 44 columns in each of 113 groups
    v = {"rising": v, "falling": v[::-1], "random": rng().permutation(v), "one group": np.where(np.arange(n) % 113 == 5, 9000-v, v/10)}[order]
    p, s = top_candidates(np.ones((3, 1)), v[:, None], k); assert p.tolist() == [np.argsort(-v, kind="stable")[:k].tolist()]*3 and s[0].tolist() == np.sort(v)[::-1][:k].tolist()

def test_a_crowd_of_equals_is_cut_at_k_and_by_position():
    v = np.zeros(4000, np.float32); v[[3999, 17]] = 1; v[[5, 9]] = 2; p, _ = top_candidates(np.ones((40, 1)), v[:, None], 6); assert p.tolist() == [[5, 9, 17, 3999, 0, 1]]*40
    assert ranking._exactly(np.array([1, 3, 2, 2, 2.]), 3).tolist() == [False, True, True, True, False]
    assert np.count_nonzero(ranking._keep(np.zeros((2, 4000), np.float32), 6)) == 12

def test_few_columns_many_candidates(): 
    z_a, z_b = real(5, 3); assert top_candidates(z_a, z_b, 10)[0].shape == (5, 3); assert top_candidates(z_a, z_b[:1], 10)[0].tolist() == [[0]]*5
    assert [x.shape for x in top_candidates(z_a[:1], z_b, 2)] == [(1, 2)]*2

def test_equal_vectors_have_equal_scores_wherever_they_stand():
    z_a, z_b = real(50, 37, 301); far = np.concatenate([z_b, real(1003, 1, 301, 5)[0], z_b]); p, s = top_candidates(z_a, far, len(far))
    at = np.argsort(p, axis=1); s = np.take_along_axis(s, at, 1); assert (s[:, :37] == s[:, -37:]).all()
    c_a, c_b = csls(z_a, far, 3); assert (c_b[:37] == c_b[-37:]).all(); assert (mean_ranks(z_a, far, diagonal(37))[:, 0] % 1 == .5).all()

def test_minus_zero_is_zero(): assert len(ranking._distinct(np.array([[0., 1], [-0., 1]], np.float32))[0]) == 1
def test_distinct_rows_come_back_in_order_of_first_appearance():
    z = np.array([[5, 1], [3, 1], [5, 1], [4, 4]], np.float32); u, which = ranking._distinct(z); assert u.tolist() == [[5, 1], [3, 1], [4, 4]] and u[which].tolist() == z.tolist()

# ---- any block, any order, any type

@pytest.mark.parametrize("block", [1, 7, 100, 10**6])
def test_no_block_size_changes_an_answer(block):
    z_a, z_b = whole(61, 83, 6); links = diagonal(61); test = dict(block=block)
    assert top_candidates(z_a, z_b, 9, **test)[0].tolist() == top_candidates(z_a, z_b, 9)[0].tolist() and mean_ranks(z_a, z_b, links, **test).tolist() == mean_ranks(z_a, z_b, links).tolist()
    assert [x.tolist() for x in csls(z_a, z_b, 4, **test)] == [x.tolist() for x in csls(z_a, z_b, 4)] and score_links(z_a, z_b, links, csls_k=4, **test) == score_links(z_a, z_b, links, csls_k=4)

def test_blocks_follow_the_budget(monkeypatch):
    assert [(s.start, s.stop) for s in ranking._rows(5, 10, 2)] == [(0, 2), (2, 4), (4, 5)]; monkeypatch.setattr(ranking, "BLOCK_BYTES", 4*10*3)
    assert [(s.start, s.stop) for s in ranking._rows(7, 10)] == [(0, 3), (3, 6), (6, 7)]; assert len(list(ranking._rows(4, 1000))) == 4

def test_order_of_the_entities_does_not_matter():
    z_a, z_b = whole(40, 50); links = diagonal(40); r = rng(3); i, j = r.permutation(40), r.permutation(50); moved = np.stack([np.argsort(i)[links[:, 0]], np.argsort(j)[links[:, 1]]], 1)
    for candidates in ("all", "test"): assert mean_ranks(z_a[i], z_b[j], moved, candidates).tolist() == mean_ranks(z_a, z_b, links, candidates).tolist()
    c, e = csls(z_a, z_b, 3), csls(z_a[i], z_b[j], 3); np.testing.assert_allclose(e[0] @ e[1].T, (c[0] @ c[1].T)[i][:, j], atol=1e-5)

@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, bool])
def test_any_real_type(dtype):
    z_a, z_b = (x.astype(dtype) for x in whole(30, 30)); f = [x.astype(np.float32) for x in (z_a, z_b)]; assert top_candidates(z_a, z_b)[1].tolist() == top_candidates(*f)[1].tolist()
    assert mean_ranks(z_a, z_b, diagonal(30)).tolist() == mean_ranks(*f, diagonal(30)).tolist()

def test_nothing_given_is_changed():
    z_a, z_b = real(20, 20); p, s = top_candidates(z_a, z_b, 5); given = [z_a, z_b, p, s]; before = [x.copy() for x in given]; score_links(z_a, z_b, diagonal(20), "test", 3); assign(p, s, 20, minimum=.1); match_posterior(p, s, 20, temperature=.1, nobody_a=0., nobody_b=0.)
    assert all((x == y).all() for x, y in zip(given, before))

# ---- hubs

def test_a_hub_is_taken_down():
    n = 30; z_a, z_b = np.eye(n), np.eye(n); z_b[0] = .9; z_b[1:] *= .8; links = diagonal(n) # record 0 of b is near to everybody: 0.9 against 0.8 for the partner
    plain, local = score_links(z_a, z_b, links), score_links(z_a, z_b, links, csls_k=2); assert plain.a_to_b["hits_1"].value == pytest.approx(1/n) and local.a_to_b["hits_1"].value == pytest.approx(1)
    favourite = lambda x, y: np.bincount(top_candidates(x, y, 1)[0][:, 0], minlength=n).max(); assert favourite(z_a, z_b) == n and favourite(*csls(z_a, z_b, 2)) == 1

@sizes
@settings(max_examples=30, deadline=None)
def test_csls_is_its_formula(n_a, n_b, k, most, seed, block):
    z_a, z_b = whole(n_a, n_b, seed=seed, most=most); s = z_a @ z_b.T; c_a, c_b = csls(z_a, z_b, k, block=block); assert c_a.shape == (n_a, 6) and c_b.dtype == np.float32
    r_a, r_b = np.sort(s, 1)[:, -k:].mean(1, dtype=float), np.sort(s, 0)[-k:].mean(0, dtype=float); np.testing.assert_allclose(c_a @ c_b.T, 2*s-r_a[:, None]-r_b, atol=1e-4)

def test_csls_defaults_to_ten(): z = real(40, 40); assert [x.tolist() for x in csls(*z)] == [x.tolist() for x in csls(*z, 10)] != [x.tolist() for x in csls(*z, 9)]

# ---- ranks

def slow_ranks(s, links): return [[1+sum(s[i] > s[i, j])+(sum(s[i] == s[i, j])-1)/2, 1+sum(s[:, j] > s[i, j])+(sum(s[:, j] == s[i, j])-1)/2] for i, j in links]

@sizes
@settings(max_examples=40, deadline=None)
def test_ranks_are_those_of_a_slow_count(n_a, n_b, k, most, seed, block):
    z_a, z_b = whole(n_a, n_b, seed=seed, most=most); r = rng(seed); m = min(n_a, n_b, k); links = np.stack([r.permutation(n_a)[:m], r.permutation(n_b)[:m]], 1)
    assert mean_ranks(z_a, z_b, links, block=block).tolist() == slow_ranks(z_a @ z_b.T, links)
    s = z_a[links[:, 0]] @ z_b[links[:, 1]].T; assert mean_ranks(z_a, z_b, links, "test", block=block).tolist() == slow_ranks(s, diagonal(m))

def test_an_entity_with_two_partners_is_scored_for_each_and_counts_once_as_a_candidate():
    z_a, z_b = whole(6, 6, seed=2); links = [(0, 0), (0, 1), (2, 1)]; s = z_a @ z_b.T; assert mean_ranks(z_a, z_b, links).tolist() == slow_ranks(s, links)
    assert mean_ranks(z_a, z_b, links, "test").tolist() == slow_ranks(s[[0, 2]][:, [0, 1]], [(0, 0), (0, 1), (1, 1)]); assert score_links(z_a, z_b, links, "test").n_candidates == (2, 2)

@pytest.mark.parametrize("n_a,n_b", [(1, 1), (7, 7), (40, 90)])
def test_constant_vectors_score_chance_and_not_one(n_a, n_b):
    links = diagonal(min(n_a, n_b)); x = score_links(np.full((n_a, 3), .1), np.full((n_b, 3), .1), links, csls_k=0); assert mean_ranks(np.ones((n_a, 2)), np.ones((n_b, 2)), links).tolist() == [[(n_b+1)/2, (n_a+1)/2]]*len(links)
    for d, n in ((x.a_to_b, n_b), (x.b_to_a, n_a)): assert d["hits_1"].value == pytest.approx(1/n) == d["hits_1"].chance and d["hits_10"].value == pytest.approx(min(10, n)/n) and d["mrr"].value == pytest.approx(2/(n+1))
    local = score_links(np.full((n_a, 3), .1), np.full((n_b, 3), .1), links, csls_k=3); assert local.hits_1.value == pytest.approx((1/n_a+1/n_b)/2) and local.tied == float(max(n_a, n_b) > 1)

# ---- scores

def test_scores_of_known_ranks():
    x = score_ranks([[1, 2], [4, 1], [11, 20]], (50, 60)); assert x.hits_1.value == pytest.approx(2/6) and x.hits_10.value == pytest.approx(4/6) and x.mrr.value == pytest.approx((1+.5+.25+1+1/11+.05)/6)
    assert x.a_to_b["hits_1"].value == pytest.approx(1/3) and x.b_to_a["hits_10"].value == pytest.approx(2/3) and x.b_to_a["mrr"].value == pytest.approx((.5+1+.05)/3) and x.n == 3 and x.n_candidates == (50, 60)
    assert x.hits_1.chance == pytest.approx((1/50+1/60)/2) and x.a_to_b["hits_10"].chance == pytest.approx(.2) and x.b_to_a["hits_10"].chance == pytest.approx(1/6) and x.hits_1.higher_is == "better"
    assert x.tied == 0 and x.candidates == "all" and x.csls_k == 0 and score_ranks([[1, 1]], 5).n_candidates == (5, 5)

@pytest.mark.parametrize("n", [1, 2, 10, 11, 100, 101, 5000])
def test_chance_is_that_of_a_random_order(n):
    assert ranking._chance(n) == pytest.approx([1/n, min(1, 10/n), sum(1/i for i in range(1, n+1))/n], rel=1e-9)

def test_a_shared_place_counts_its_fair_part():
    x = score_ranks([[2, 1], [10.5, 1]], 100, ties=[[3, 1], [2, 1]]); assert x.a_to_b["hits_1"].value == pytest.approx(1/6) and x.a_to_b["hits_10"].value == pytest.approx((1+.5)/2) and x.a_to_b["mrr"].value == pytest.approx((.5+1/10.5)/2) and x.tied == .5

def test_the_interval_keeps_both_directions_of_a_link_together():
    same = np.repeat(np.where(np.arange(400) % 2, 1, 50)[:, None], 2, 1).astype(float); apart = same.copy(); apart[:, 1] = 51-apart[:, 1] # a link that misses one way always hits the other way
    one, two = (score_ranks(r, 100).hits_1 for r in (same, apart)); assert one.value == two.value == .5 and two.low > .49 > one.low and one.high-one.low == pytest.approx(2*1.96*.5/20, rel=.12)

@pytest.mark.parametrize("rank,k", [(1, "hits_1"), (99, "hits_10")])
def test_when_all_links_agree_the_interval_still_has_a_width(rank, k):
    e = getattr(score_ranks(np.full((60, 2), float(rank)), 100), k); unseen = 1-.025**(1/60); assert (e.low, e.high) == pytest.approx((1-unseen, 1) if rank == 1 else (0, unseen))

def test_intervals_cover():
    "Of 200 sets of 150 links with Hits@1 = .7, about 95 % of the intervals contain .7."
    r = rng(7); inside = 0
    for i in range(200): low, high = ranking._bootstrap((r.random(150) < .7).astype(float)[:, None], 100, i); inside += low[0] <= .7 <= high[0]
    assert 180 <= inside <= 198

def test_same_seed_same_result():
    z = real(60, 60); a, b, c = (score_links(*z, diagonal(60), seed=s) for s in (0, 0, 1)); assert a == b and a.hits_10 != c.hits_10 and a.hits_10.value == c.hits_10.value
    assert score_links(*z, diagonal(60), n_boot=50).hits_10 != a.hits_10

def test_the_face():
    z = real(30, 40); x = score_links(*z, diagonal(20), "test", 3, n_boot=50); f = x.to_frame(); assert RankScores.from_json(x.to_json()) == x and json.loads(x.to_json())["kind"] == "RankScores"
    assert len(f) == 9 and f[(f.direction == "b to a") & (f.metric == "mrr")].value.item() == x.b_to_a["mrr"].value and f[f.direction == "both"].value.tolist() == [e.value for e in x.estimates().values()]
    assert "linked entities only (20 and 20), CSLS 3" in repr(x) and "scope=\"row\"" in x._repr_html_() and x._repr_html_().count("<tr>") == 10 and "95 % interval" in x._repr_html_()
    assert "all entities (40 and 30), plain scores" in score_links(*z, diagonal(20), n_boot=50).protocol

def test_the_test_protocol_scales_among_the_linked_only():
    z_a, z_b = real(50, 60); links = diagonal(25); inside = score_links(z_a[:25], z_b[:25], links, csls_k=4); x = score_links(z_a, z_b, links, "test", 4)
    assert x.mrr == inside.mrr and x.n_candidates == (25, 25) and score_links(z_a, z_b, links, "all", 4).mrr.value < x.mrr.value

# ---- assignment

def slow_assign(s, minimum):
    "Dense: each record of a may stay alone in a column of its own."
    n, m = s.shape; w = np.hstack([np.where(s > minimum, s, -1e9), np.full((n, n), minimum)]); _, c = linear_sum_assignment(w, maximize=True); return np.where(c < m, c, -1)
def total(s, partner, minimum=0.): at = np.flatnonzero(partner >= 0); return (s[at, partner[at]]-minimum).sum()

@given(n_a=st.integers(1, 25), n_b=st.integers(1, 25), seed=st.integers(0, 999), minimum=st.one_of(st.none(), st.floats(-2, 2)))
@settings(max_examples=60, deadline=None)
def test_assignment_is_the_dense_one(n_a, n_b, seed, minimum):
    z_a, z_b = real(n_a, n_b, 3, seed); p, v = top_candidates(z_a, z_b, n_b); s = np.zeros((n_a, n_b)); np.put_along_axis(s, p, v.astype(float), 1); one = assign(p, v, n_b, minimum=minimum)
    taken = one[one >= 0]; assert len(set(taken)) == len(taken) and one.shape == (n_a,) and one.dtype == np.int64
    if minimum is None: r, c = linear_sum_assignment(s, maximize=True); assert len(taken) == min(n_a, n_b) and total(s, one) == pytest.approx(s[r, c].sum(), abs=1e-5)
    else: assert total(s, one, minimum) == pytest.approx(total(s, slow_assign(s, minimum), minimum), abs=1e-5) and all(s[i, j] > minimum for i, j in enumerate(one) if j >= 0)

def test_as_many_pairs_as_possible_whatever_they_cost():
    n = 200; p = np.stack([np.arange(n), np.arange(n)+1], 1); s = np.stack([np.full(n, 9e5), np.full(n, -9e5)], 1); late = np.concatenate([p, [[0, -1]]]), np.concatenate([s, [[-9e5, 0]]])
    assert assign(*late, n+1).tolist() == [*range(1, n+1), 0] # one more pair, and all others give up what they like
    assert assign(p, s, n+1).tolist() == list(range(n)) and assign(*late, n+1, minimum=0).tolist() == [*range(n), -1]

def test_a_pair_worth_no_more_than_staying_alone_is_not_made():
    assert assign([[0]], [[.5]], 1, minimum=.5).tolist() == [-1] and assign([[0]], [[.5]], 1, minimum=.49).tolist() == [0] and assign([[0]], [[.5]], 1).tolist() == [0] and assign([[-1]], [[np.nan]], 3).tolist() == [-1]
    assert assign([[0], [0]], [[1], [1]], 1).tolist() in ([0, -1], [-1, 0]) and assign([[0, 1], [0, 1]], [[1, 1], [1, 1]], 2, minimum=0).min() == 0

def test_assignment_does_not_care_for_order_or_unit():
    z = real(40, 40); p, s = top_candidates(*z, 40); one = assign(p, s, 40); i = rng(1).permutation(40); assert assign(p[i], s[i], 40).tolist() == one[i].tolist() == assign(p[i], 1e6*s[i]+5, 40).tolist()
    turn = rng(2).permutation(40); assert assign(turn[p], s, 40).tolist() == turn[one].tolist(); shuffled = rng(3).permuted(np.tile(np.arange(40), (40, 1)), axis=1); assert assign(np.take_along_axis(p, shuffled, 1), np.take_along_axis(s, shuffled, 1), 40).tolist() == one.tolist()

def test_score_of_an_assignment():
    e = score_assignment(np.array([2, 1, -1, 0]), [(0, 2), (1, 1), (2, 3), (3, 3)], 4); assert e.value == .5 and e.n == 4 and e.chance == .25 and e.low <= .5 <= e.high and e.higher_is == "better"
    perfect = score_assignment(np.arange(30), diagonal(30), 30); assert perfect.value == 1 == perfect.high and perfect.low == pytest.approx(.025**(1/30))
    with pytest.raises(InputError, match="no links"): score_assignment(np.arange(3), [], 3)

# ---- posterior

def dense_posterior(s, t, a, b, rounds=3000):
    "Sinkhorn on the full matrix with a row and a column for nobody whose sums are free."
    k, a, b = np.exp(s/t), np.exp(np.broadcast_to(a, s.shape[0])/t), np.exp(np.broadcast_to(b, s.shape[1])/t); v = np.ones(s.shape[1])
    for _ in range(rounds): u = 1/(k @ v+a); v = 1/(k.T @ u+b)
    return k*u[:, None]*v

@pytest.mark.parametrize("tiny", [1e-90, .9]) # .9: every round in logarithms
@pytest.mark.parametrize("n_a,n_b,nobody", [(12, 12, (0., .2)), (7, 15, (.3, -.1)), (15, 7, (0., 0.)), (1, 1, (.5, .5)), (9, 1, (.1, .1)), (6, 5, ("each", "each"))])
def test_the_posterior_is_the_dense_one(n_a, n_b, nobody, tiny, monkeypatch):
    monkeypatch.setattr(ranking, "TINY", tiny)
    s = rng(4).normal(size=(n_a, n_b)); a, b = (rng(5).normal(size=n) if x == "each" else x for x, n in zip(nobody, (n_a, n_b))); p = in_order(s, n_b)
    x = match_posterior(p, np.take_along_axis(s, p, 1), n_b, temperature=.4, nobody_a=a, nobody_b=b, n_iter=3000, tol=1e-10); np.testing.assert_allclose(x.toarray(), dense_posterior(s, .4, a, b), atol=1e-7); assert x.shape == (n_a, n_b)

def test_without_nobody_every_record_has_a_partner():
    s = rng(6).normal(size=(10, 10)); p = in_order(s, 10); x = match_posterior(p, np.take_along_axis(s, p, 1), 10, temperature=.5, n_iter=2000, tol=1e-9).toarray(); np.testing.assert_allclose([x.sum(0), x.sum(1)], 1, atol=1e-7)

@pytest.mark.parametrize("a,b", [(.4, .4), (.3, .5), (.8, 0.), (-1., 1.8)])
def test_a_pair_worth_as_much_as_two_alone_is_as_likely(a, b): # p = (1−p)², whatever the split between the sides
    assert match_posterior([[0]], [[.8]], 1, temperature=.1, nobody_a=a, nobody_b=b, n_iter=5000, tol=1e-12).toarray()[0, 0] == pytest.approx((3-5**.5)/2)

@pytest.mark.parametrize("t", [1e-6, 1e-3, 1., 1e6])
def test_sums_never_pass_one_at_any_temperature(t):
    z = real(60, 45); p, s = top_candidates(*z, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakInputWarning)
        for nobody in (dict(), dict(nobody_a=.5, nobody_b=1.), dict(nobody_a=0.)):
            x = match_posterior(p, s, 45, temperature=t, **nobody); assert np.isfinite(x.data).all() and (x.data >= 0).all() and x.sum(0).max() <= 1+1e-9 and x.sum(1).max() <= 1+1e-9

def test_the_posterior_moves_with_the_records():
    z = real(30, 25); p, s = top_candidates(*z, 9); n = dict(temperature=.5, nobody_a=rng(1).normal(size=30), nobody_b=rng(2).normal(size=25)); x = match_posterior(p, s, 25, **n).toarray(); i, j = rng(3).permutation(30), rng(4).permutation(25)
    y = match_posterior(np.argsort(j)[p][i], s[i], 25, temperature=.5, nobody_a=n["nobody_a"][i], nobody_b=n["nobody_b"][j]).toarray(); np.testing.assert_allclose(y, x[i][:, j], atol=1e-9)

def test_the_posterior_takes_a_hub_down():
    n = 30; z_b = .8*np.eye(n); z_b[0] = .9; p, s = top_candidates(np.eye(n), z_b, n); x = match_posterior(p, s, n, temperature=.02).toarray(); assert (p[:, 0] == 0).all() and x.argmax(1)[1:].tolist() == list(range(1, n)) and x.argmax(1)[0] == 0

def test_low_temperature_is_the_assignment():
    z = real(25, 25); p, s = top_candidates(*z, 25); x = match_posterior(p, s, 25, temperature=.02, n_iter=3000).toarray(); assert x.argmax(1).tolist() == assign(p, s, 25).tolist() and np.median(x.max(1)) > .95

def test_candidates_that_are_missing():
    x = match_posterior([[0, -1], [-1, -1], [2, 0]], [[1, 0], [0, 0], [.5, .9]], 4, temperature=.2, nobody_a=.1, nobody_b=.1).toarray(); assert x[1].tolist() == [0]*4 and x[:, [1, 3]].sum() == 0 and x[0, 0] > 0 and x[2, 0] > 0
    assert match_posterior([[-1]], [[0.]], 4, temperature=.2).toarray().tolist() == [[0]*4]
    with pytest.warns(WeakInputWarning): y = match_posterior([[-1, -1], [0, 1]], [[0, 0], [1, .9]], 2, temperature=.2).toarray(); assert y[0].sum() == 0 and np.isfinite(y).all()

def test_what_has_not_settled_warns():
    with pytest.warns(WeakInputWarning, match="not settled after 2 rounds"): match_posterior([[0], [0], [0]], [[1], [2], [3]], 1, temperature=.1, n_iter=2)
    with warnings.catch_warnings(): warnings.simplefilter("error"); match_posterior([[0], [0], [0]], [[1], [2], [3]], 1, temperature=.1, nobody_a=1.5, nobody_b=.1)

# ---- refused, in words

OK, P, S = np.eye(3), [[0, 1], [1, 2]], [[.2, .1], [.3, .1]]
@pytest.mark.parametrize("call,words", [
    (lambda: check_scoring([[1, np.nan]], [[1, 2]]), r"`z_a` holds 1 values.*row 0"), (lambda: check_scoring([[1, 2]], [[1, 2], [np.inf, 1]]), r"`z_b`.*row 1"), (lambda: check_scoring([[1e300]], [[1]]), "too large for float32"),
    (lambda: check_scoring([[1e20]], [[1e20]]), "do not fit into float32"), (lambda: check_scoring(np.ones(3), OK), r"shape \(3,\)"), (lambda: check_scoring(np.ones((0, 3)), OK), r"shape \(0, 3\)"), (lambda: check_scoring(np.ones((3, 0)), OK), r"shape \(3, 0\)"),
    (lambda: check_scoring(OK+1j, OK), "complex128"), (lambda: check_scoring([["a"]], [["b"]]), "real numbers"), (lambda: check_scoring(np.ones((3, 2)), OK), "2 columns but `z_b` has 3"),
    (lambda: top_candidates(OK, OK, 0), "`k`"), (lambda: top_candidates(OK, OK, 2.5), "`k`"), (lambda: top_candidates(OK, OK, block=0), "`block`"), (lambda: csls(OK, OK, 0), "`k`"),
    (lambda: mean_ranks(OK, OK, [(0, 3)]), "does not exist.*row 0"), (lambda: mean_ranks(OK, OK, [(0, 1), (-1, 0)]), "row 1"), (lambda: mean_ranks(OK, OK, [(0, 1), (0, 1)]), "1 pairs more than once"), (lambda: mean_ranks(OK, OK, [("a", "b")]), "read_links"),
    (lambda: mean_ranks(OK, OK, [(0., 1.)]), "whole numbers"), (lambda: mean_ranks(OK, OK, [0, 1]), r"shape \(2,\)"), (lambda: mean_ranks(OK, OK, [(0, 1, 2)]), r"\(1, 3\)"), (lambda: mean_ranks(OK, OK, [(0, 1)], "tset"), "Did you mean `test`"),
    (lambda: score_links(OK, OK, []), "no links"), (lambda: score_links(OK, OK, [(0, 0)], csls_k=-1), "csls_k"), (lambda: score_links(OK, OK, [(0, 0)], n_boot=0), "n_boot"), (lambda: score_links(OK, OK, [(0, 0)], seed=-1), "seed"),
    (lambda: score_ranks([], 3), "no links"), (lambda: score_ranks([[0, 1]], 3), "between 1"), (lambda: score_ranks([[4, 1]], (3, 9)), "3 and 9"), (lambda: score_ranks([[np.nan, 1]], 3), "between 1"), (lambda: score_ranks([1, 2], 3), r"\(2,\)"),
    (lambda: score_ranks([[1, 1]], 3, ties=[[2, 1]]), "does not fit"), (lambda: score_ranks([[1, 1]], 3, ties=[[1, 0]]), "does not fit"), (lambda: score_ranks([[3, 1]], 3, ties=[[2, 1]]), "does not fit"), (lambda: score_ranks([[1, 1]], 3, ties=[1]), "does not fit"), (lambda: score_ranks([[1, 1]], (3, 3, 3)), r"\(1, 2\)"),
    (lambda: assign([0, 1], [0, 1], 2), r"\(n_a, k\)"), (lambda: assign(P, [[1]], 3), r"\(2, 2\).*\(1, 1\)"), (lambda: assign(P, S, 2), r"outside 0 … 1 \(row 1\)"), (lambda: assign([[-2]], [[1]], 3), "outside"), (lambda: assign([[0.]], [[1]], 3), "float64"), (lambda: assign(P, S, 0), "n_b"),
    (lambda: assign([[0, 0]], [[1, 2]], 3), "twice"), (lambda: assign(P, [[np.nan, 1], [1, 1]], 3), "1 NaN or infinite.*row 0"), (lambda: assign(P, S, 3, minimum=np.nan), "minimum"),
    (lambda: match_posterior(P, S, 3, temperature=0), "temperature"), (lambda: match_posterior(P, S, 3, temperature=1, nobody_a=[1]), r"`nobody_a` has shape \(1,\)"), (lambda: match_posterior(P, S, 3, temperature=1, nobody_b=np.inf), "nobody_b"),
    (lambda: match_posterior(P, S, 3, temperature=1, n_iter=0), "n_iter"), (lambda: match_posterior(P, S, 3, temperature=1, tol=-1), "tol"), (lambda: score_assignment([0, 1], [(2, 0)], 2), "does not exist")])
def test_refused_in_words(call, words):
    with pytest.raises(InputError, match=words): call()

@pytest.mark.parametrize("empty", [[], np.zeros((0, 2), int), ()])
def test_no_links_give_no_ranks(empty):
    assert mean_ranks(OK, OK, empty).shape == (0, 2) and mean_ranks(OK, OK, empty, "test").shape == (0, 2)

def test_memory_stays_below_a_full_matrix():
    import tracemalloc
    z_a, z_b = real(4000, 20_000, 4); tracemalloc.start(); top_candidates(z_a, z_b, 5, block=100); peak = tracemalloc.get_traced_memory()[1]; tracemalloc.stop(); assert peak < 4*4000*20_000/4
