"Alignment against chance: exact nulls, level, planted alignment, intervals, groups, words, hostile input."
import itertools, json, math, warnings
import numpy as np, pytest
from mmkit.alignment import calibrate as C
from mmkit.alignment.calibrate import AlignmentCurves, AlignmentPolicy, AlignmentResult, alignment_curves, measure_alignment, relabellings
from mmkit.alignment.similarity import METRICS, Centred, neighbour_score, neighbours, similarity, similarity_grid
from mmkit.checks import InputError, WeakInputWarning
from mmkit.data.records import MultimodalRecords
from mmkit.language import LANGUAGES
from mmkit.results import VERDICTS

def noise(n, d, seed): return np.random.default_rng([seed, d]).standard_normal((n, d))

def views(n, seed, strength=1., widths=((12, 20), (24, 8))):
    "Layers of two models that share three traits."
    models, rng = np.random.default_rng(5), np.random.default_rng([seed, 6]); z = strength*rng.standard_normal((n, 3))
    return tuple([z@models.standard_normal((3, d))+rng.standard_normal((n, d)) for d in side] for side in widths)

NAMES = [f"layer {i}" for i in range(30)]
def scores(a, b, perms, metric, k=10, normalize=True, seed=0): return C.relabelled_scores(C.prepared(a, b, NAMES[:len(a)+len(b)], metric, k, normalize, seed), perms)[0]

# ---- the null is exact

@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.filterwarnings("ignore::mmkit.checks.WeakInputWarning")
def test_every_metric_agrees_with_shuffling_and_computing_again(metric, normalize):
    a, b = views(80, 0); perms = np.vstack([np.arange(80), relabellings(80, 2)])
    np.testing.assert_allclose(scores(a, b, perms, metric, 7, normalize), [similarity_grid(a, [x[p] for x in b], metric, 7, normalize) for p in perms], atol=1e-6)

def one_by_one(a, b, metric): return neighbour_score(a, b.astype(np.int32), metric)

@pytest.mark.parametrize("metric", C._ON_LISTS)
def test_lists_of_many_layers_in_many_blocks(metric, monkeypatch):
    "More than eight layers on either side, tables of a few rows, sums beyond 255: same counts as one by one."
    monkeypatch.setattr(C, "CELLS", 7*300); rng = np.random.default_rng(0); n, k = 300, 4
    a, b = ([rng.permuted(np.tile(np.arange(n), (n, 1)), axis=1)[:, :k] for _ in range(m)] for m in (9, 11)); perms = np.vstack([np.arange(n), relabellings(n, 1)])
    b[10] = a[8].copy()  # full agreement: 300 rows of k
    found = C.list_scores(a, b, perms, metric)
    for p, perm in enumerate(perms):
        inverse = np.argsort(perm)
        for i, j in ((0, 0), (8, 10), (5, 9), (8, 7)): assert found[p, i, j] == pytest.approx(one_by_one(a[i], inverse[b[j][perm]], metric), abs=1e-12)

@pytest.mark.parametrize("metric", ["cka", "unbiased_cka", "rsa"])
def test_matrices_and_features_give_the_same_null(metric):
    a, b = views(90, 1, widths=((5,)*9, (7,)*10)); sides = [[Centred(x) for x in side] for side in (a, b)]; perms = np.vstack([np.arange(90), relabellings(90, 3)])
    by_matrix = C.matrix_scores(*([C.centred_similarities(s, metric)[0] for s in side] for side in sides), perms)
    np.testing.assert_allclose(by_matrix, C.narrow_scores(*([C.Narrow(s, metric) for s in side] for side in sides), perms), atol=1e-6)

def test_the_null_mean_of_mutual_neighbours_is_k_over_n_minus_1():
    null = scores([noise(150, 5, 1)], [noise(150, 9, 2)], relabellings(150, 400), "mutual_knn", 12).ravel()
    assert abs(null.mean()-12/149) < 4*null.std()/20

def test_all_orders_of_five_rows():
    "With every order listed once, ranks are exact: the mean of all is k/(n-1)."
    a, b = noise(5, 3, 1), noise(5, 3, 2); every = np.array(list(itertools.permutations(range(5))), dtype=np.int32)
    assert scores([a], [b], every, "mutual_knn", 2).mean() == pytest.approx(2/4)

def test_ties_do_not_look_like_agreement():
    "Whole-number features are full of ties, which row numbers would break alike on both sides."
    rng = np.random.default_rng(0); p = []
    for s in range(60):
        a, b = (rng.integers(0, 2, (60, 3))+1. for _ in range(2))
        with warnings.catch_warnings(): warnings.simplefilter("ignore"); p.append(measure_alignment(a, b, k=5, n_null=39, seed=s).p_value)
    assert np.mean(np.array(p) <= .05) < .17  # 3 expected of 60; 10 or more has a probability below .002

# ---- p-values and calibrated scores

def test_p_value_and_threshold():
    null = np.array([.1, .2, .3, .4])
    assert C.p_of(.25, null) == 3/5 and C.p_of(.3, null) == 3/5 and C.p_of(9., null) == 1/5 and C.p_of(0., null) == 1
    assert C.threshold_of(.25, null, .2) == .3 and C.threshold_of(9., null, .2) == .4 and C.threshold_of(9., null, .05) == 9.
    assert C.calibrate(.7, .4) == pytest.approx(.5) and C.calibrate(.3, .4) == 0 and C.calibrate(6., 4., 8.) == pytest.approx(.5) and C.calibrate(1., 1.) == 0
    n = np.random.default_rng(0).random(200); assert C.threshold_of(.5, n, .05) == np.sort(np.append(n, .5))[190]  # ceil(.95*201) = 191st

@pytest.mark.parametrize("metric", ["mutual_knn", "unbiased_cka", "cka"])
def test_level_and_uniformity_where_nothing_is_aligned(metric):
    from scipy.stats import kstest
    K, runs, ranks = 39, 150, []
    for s in range(runs):
        a, b = ([noise(60, d, 1000*s+i)+(noise(60, d, 1000*s) if d == 6 else 0) for i, d in enumerate(ds)] for ds in ((6, 6, 6), (4, 4, 30)))
        found = scores(a, b, np.vstack([np.arange(60), relabellings(60, K, seed=s)]), metric, 5).max((1, 2)); ranks.append(round(C.p_of(found[0], found[1:])*(K+1)))
    ranks = np.array(ranks); assert (ranks <= 2).mean() < .05+3*math.sqrt(.05*.95/runs)  # three standard errors
    assert kstest((ranks-np.random.default_rng(0).random(runs))/(K+1), "uniform").pvalue > .001

def test_a_maximum_is_compared_with_maxima():
    "Searching 36 pairs of noise finds a pair that would look significant alone."
    alone, together = 0, 0
    for s in range(25):
        found = scores([noise(50, 4, 100*s+i) for i in range(6)], [noise(50, 5, 100*s+i) for i in range(6)], np.vstack([np.arange(50), relabellings(50, 39, seed=s)]), "mutual_knn", 5)
        i, j = np.unravel_index(found[0].argmax(), (6, 6)); alone += C.p_of(found[0, i, j], found[1:, i, j]) <= .05; together += C.p_of(found[0].max(), found[1:].max((1, 2))) <= .05
    assert alone > 15 and together < 6

@pytest.mark.parametrize("metric", METRICS)
def test_planted_alignment_is_found(metric):
    a, b = (side[0] for side in views(120, 3, 1.5)); r = measure_alignment(a, b, metric, n_null=39)
    assert r.p_value == 1/40 and r.calibrated.value > 0 and r.observed.low <= r.observed.value <= r.observed.high and r.observed.chance < r.observed.value
    assert measure_alignment(a, b[::-1], metric, n_null=39, seed=4).calibrated.value < r.calibrated.value

def test_perfect_agreement_is_one():
    x = noise(80, 6, 0); q = np.linalg.qr(noise(6, 6, 1))[0]
    for metric, top in (("mutual_knn", 1), ("cka", 1), ("lcs_knn", 10)):
        r = measure_alignment(x, x@q, metric, n_null=19); assert r.observed.value == pytest.approx(top, abs=1e-4) and r.calibrated.value == pytest.approx(1, abs=1e-4)

# ---- intervals

@pytest.mark.parametrize("metric", ["mutual_knn", "lcs_knn", "unbiased_cka", "rsa"])
def test_intervals_cover_what_a_fresh_sample_gives(metric):
    "80 intervals for the best of four pairs; the target is the mean over all data sets."
    n, same, value, ends = 100, np.arange(100)[None], [], []
    for s in range(250 if metric != "lcs_knn" else 180):
        ready = C.prepared(*views(n, s), NAMES[:4], metric, 8, True); found, again = C.relabelled_scores(ready, same); value.append(found.max())
        if s < 80: ends.append(C.score_interval(ready, found[0], again)[:2])
    low, high = np.array(ends).T; target, ideal = np.mean(value), 3.92*np.std(value)
    assert ((low <= target) & (target <= high)).mean() > .86 and .75 < (high-low).mean()/ideal < 1.3

def test_projection_is_the_definition():
    "Influences of mutual neighbours from dense matrices, by the formula."
    a, b = (side[0] for side in views(70, 2)); n, k = 70, 6; la, lb = neighbours(a, 9), neighbours(b, 9); me = np.arange(n)[:, None]
    A, B = np.zeros((n, n)), np.zeros((n, n)); A[me, la[:, :k]] = 1; B[me, lb[:, :k]] = 1
    beta_a, beta_b = B[me, la[:, 3:9]].mean(), A[me, lb[:, 3:9]].mean(); e = (A*B-beta_a*A-beta_b*B)/k
    off = ~np.eye(n, dtype=bool); e = np.where(off, e-e[off].mean(), 0); psi = (A*B).sum(1)/k+e.sum(0)
    found, variance = C.list_influences(la, lb, k, "mutual_knn"); np.testing.assert_allclose(found, psi)
    assert variance == pytest.approx(psi.var(ddof=1)/n-((e*e).sum()+(e*e.T).sum())/n**2)

def test_spread_of_a_maximum():
    z = np.random.default_rng(0).standard_normal((500, 4)); v = np.full(4, .01)
    assert C.spread_of_maximum(np.array([5., 0, 0, 0]), z, v) == pytest.approx(.1, rel=.06)
    assert C.spread_of_maximum(np.zeros(4), z, v) == pytest.approx(.07, rel=.08)                                  # of four independent normals: .701
    assert C.spread_of_maximum(np.zeros(4), np.repeat(z[:, :1], 4, 1), v) == pytest.approx(.1, rel=.06)           # of four copies: as one

def test_no_interval_of_length_zero_where_all_rows_agree():
    x = noise(40, 3, 0); r = measure_alignment(x, x, "cycle_knn", 20, n_null=19); assert r.observed.value == 1 and r.observed.low < 1

# ---- groups

@pytest.mark.filterwarnings("ignore::mmkit.checks.WeakInputWarning")
def test_orders_respect_groups():
    g = np.repeat([3, 1, 2, 9], [2, 2, 3, 2]); whole, within = relabellings(9, 30, g, "whole", .3), relabellings(9, 30, g, "within", .3)
    assert (np.sort(whole, 1) == np.arange(9)).all() and (g[within] == g).all() and len({tuple(p) for p in within}) > 10
    assert (whole[:, 4:7] == [4, 5, 6]).all() and (whole[:, 1] == whole[:, 0]+1).all() and set(whole[:, 0]) == {0, 2, 7}  # the three pairs change places, the triple has no partner

def test_repeated_subjects_break_single_rows_and_not_whole_groups():
    single = grouped = 0; who = np.repeat(np.arange(30), 5)
    for s in range(20):
        x, y = (noise(30, 5, 2*s+i)[who]+.5*noise(150, 5, 90+2*s+i) for i in range(2))
        single += measure_alignment(x, y, n_null=19).p_value <= .05; grouped += measure_alignment(x, y, n_null=19, groups=who, seed=s).p_value <= .05
    assert single > 15 and grouped < 6

def test_groups_widen_the_interval():
    who = np.repeat(np.arange(30), 5); z = noise(30, 4, 1)[who]; x, y = (z@noise(4, 8, i+3)+.3*noise(150, 8, i) for i in range(2))
    wide = lambda r: r.observed.high-r.observed.low
    for metric in ("unbiased_cka", "mutual_knn", "procrustes"): assert wide(measure_alignment(x, y, metric, n_null=19, groups=who)) > wide(measure_alignment(x, y, metric, n_null=19))

def test_what_groups_explain_does_not_count_within_them():
    site = np.repeat(np.arange(4), 30); centre = 4*noise(4, 3, 0)[site]; x, y = centre+noise(120, 3, 1), centre+noise(120, 3, 2)
    assert measure_alignment(x, y, n_null=99).p_value == .01 and measure_alignment(x, y, n_null=99, groups=site, exchange="within").p_value > .05

# ---- the result

@pytest.fixture(scope="module")
def found(): return measure_alignment(dict(zip(("early", "late"), views(90, 3)[0])), views(90, 3)[1], n_null=39)

def test_the_result_says_what_it_found(found):
    assert found.scores.shape == (2, 2) and found.scores[found.best] == found.observed.value == found.scores.max() and found.layers_a == ("early", "late")
    pairs = found.pairs(); assert len(pairs) == 4 and pairs.score.max() == found.observed.value and pairs.calibrated.max() == found.calibrated.value and pairs.p_value.min() == found.p_value
    assert set(found.to_frame().quantity) == {"observed", "calibrated"} and len(found.null) == 39 and found.provenance.parameters["n_null"] == 39

def test_json_round_trip(found):
    for r in (found, alignment_curves(*(side[0] for side in views(60, 0)), k=4, ks=(2,), ns=(30,), n_null=19, samples=2)):
        again = type(r).from_json(r.to_json()); assert again.to_json() == r.to_json() and again.estimates() == r.estimates()
    with pytest.raises(InputError): AlignmentResult.from_json(found.to_json()[:200])

@pytest.mark.parametrize("language", LANGUAGES)
def test_words_pictures_and_pages(found, language, tmp_path):
    single = measure_alignment(*(side[0] for side in views(60, 3)), "cka", n_null=19)
    for r in (found, single, alignment_curves(*(side[0] for side in views(60, 0)), k=4, ks=(2,), ns=(30,), n_null=19, samples=1)):
        with warnings.catch_warnings(): warnings.simplefilter("error"); r.plot(language=language).figure.savefig(tmp_path/"x.png")
        page = r.save_html(tmp_path/"r.html", language).read_text(); assert "<img alt" in page and "{" not in r.summary(language)
        for v in r.verdicts(): assert v.value in VERDICTS and all("{" not in v.text(part, language) for part in ("what", "rule", "next_step"))

def test_names_are_escaped():
    r = MultimodalRecords({"<b>a</b>": noise(30, 3, 0), "b": noise(30, 3, 1)}); assert "<b>a</b>" not in measure_alignment(r, n_null=19, k=3)._repr_html_()

def test_verdicts_never_contradict_the_numbers():
    for s, strength in enumerate((0., .1, .2, .4, .8, 1.6)):
        r = measure_alignment(*(side[0] for side in views(80, s, strength)), n_null=39, seed=s)
        for limit in (0., .02, .1, .3, .9):
            beyond, enough = r.verdicts(AlignmentPolicy(limit, .05, "origin_user"))
            assert (beyond.value == "pass") == (r.p_value <= .05) and beyond.value != "fail"
            assert enough.value == ("pass" if r.calibrated.low > limit else "fail" if r.calibrated.high < limit else "not_enough_evidence")
    few = measure_alignment(*(side[0] for side in views(40, 0, 3.)), n_null=19); assert few.verdicts()[1].value in ("warn", "not_enough_evidence")

def test_same_seed_same_result():
    a, b = views(60, 0); strip = lambda r: {k: v for k, v in json.loads(r.to_json()).items() if k != "provenance"}
    assert strip(measure_alignment(a, b, n_null=19, seed=3)) == strip(measure_alignment(a, b, n_null=19, seed=3)) != strip(measure_alignment(a, b, n_null=19, seed=4))

def test_one_pair_is_what_similarity_says():
    for metric in METRICS: a, b = (side[1] for side in views(60, 7)); assert measure_alignment(a, b, metric, n_null=19).observed.value == pytest.approx(similarity(a, b, metric), abs=1e-6)

def test_records_use_rows_that_have_both(found):
    a, b = (side[0].copy() for side in views(60, 0)); b[:10] = np.nan; records = MultimodalRecords({"a": a, "b": b, "c": noise(60, 3, 0)}, groups={"who": np.repeat(np.arange(12), 5)})
    r = measure_alignment(records, modalities=("a", "b"), groups="who", n_null=19); assert r.observed.n == 50 and r.name_b == "b" and r.provenance.fingerprint == records.fingerprint
    for wrong, what in ((("a", "x"), "not known"), (("a", "a"), "different"), ("a", "two"), (None, "two")):
        with pytest.raises(InputError, match=what): measure_alignment(records, modalities=wrong)
    with pytest.raises(InputError, match="groups"): measure_alignment(records, modalities=("a", "b"), groups="whom")

def test_progress_and_inputs_untouched():
    a, b = views(60, 0); before, seen = [x.copy() for x in a], []
    measure_alignment(a, b, n_null=19, progress=lambda done, total, what: seen.append((done, total, what)))
    assert seen and all(0 < d <= t for d, t, _ in seen) and all((x == y).all() for x, y in zip(a, before))

def test_curves():
    a, b = (side[0] for side in views(120, 0, 1.5)); c = alignment_curves(a, b, k=6, ks=(2, 30, 500), n_null=39, samples=2)
    assert [k for _, k, _ in c.over["k"]] == [2, 6, 30] and [n for n, *_ in c.over["n"]] == [15, 30, 60, 120] and c.verdicts() == ()
    for line in c.over.values():
        for n, k, e in line: assert e.chance == pytest.approx(k/(n-1), abs=.04) and e.low <= e.value <= e.high and e.n == n
    assert not alignment_curves(a, b, "unbiased_cka", ns=(60,), n_null=19, samples=1).over["k"]
    with pytest.raises(InputError, match="one layer"): alignment_curves([a, a], b)

# ---- what is refused

X = noise(40, 5, 0)
HOSTILE = [
    ((X, X[:-1]), {}, "40 records"), (([X, X], [X, X[:-1]]), {}, "records"), ((X, X), dict(k=40), "k"), ((X, X), dict(k=0), "k"), ((X, X), dict(k=2.5), "k"),
    ((X[:8], X[:8]), dict(k=2), "at least 10"), ((X[:3], X[:3]), dict(metric="unbiased_cka"), "at least"), ((X, X), dict(metric="mutual_nn"), "mutual_knn"),
    ((np.ones((40, 3)), X), {}, "same"), ((X, np.ones((40, 3))), dict(metric="cka"), "same|variance"), ((np.where(X > 2, np.nan, X), X), {}, "NaN"),
    ((np.where(np.arange(40)[:, None] == 7, 0, X), X), {}, "zeros"), ((np.full((40, 5), np.inf, np.float16), X), {}, "float16|infin|65,504"),
    ((X, None), {}, "x_b"), (("abc", X), {}, "features"), (([], X), {}, "dimensions|rows|empty"), ((X, X), dict(n_null=5), "n_null"), ((X, X), dict(alpha=0), "alpha"), ((X, X), dict(seed=-1), "seed"),
    ((X, X), dict(groups=[1, 2]), "2 entries"), ((X, X), dict(groups="who"), "list"), ((X, X), dict(groups=[None]*40), "empty"), ((X, X), dict(groups=np.repeat([0, 1], 20)), "orders"),
    ((X, X), dict(groups=np.arange(40), exchange="within"), "orders"), ((X, X), dict(groups=np.arange(40), exchange="inside"), "within"), ((X, X), dict(modalities=("a", "b")), "modalities"),
    ((X, X), dict(metric="lcs_knn", k=300), "k"), ((X[:, 0], X), {}, "dimensions|expected")]

@pytest.mark.parametrize("args, options, words", HOSTILE)
def test_bad_input_is_refused_in_words(args, options, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=words): measure_alignment(*args, **options)

def test_gaussian_similarities_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="GiB"): C._matrices_pay(50_000, [8], [8], "cka_rbf")
    assert not C._matrices_pay(50_000, [512], [512], "unbiased_cka") and C._matrices_pay(1000, [512], [512], "unbiased_cka")

def test_coarse_and_stuck_groups_are_said():
    with pytest.warns(WeakInputWarning, match="coarse"): relabellings(20, 200, np.repeat(np.arange(5), 4))
    with pytest.warns(WeakInputWarning, match="cannot move"): relabellings(60, 19, np.repeat(np.arange(11), [50, *[1]*10]))

def test_duplicated_records_are_said():
    x = np.concatenate([X, X])
    with pytest.warns(WeakInputWarning, match="copy|copies"): measure_alignment(x, noise(80, 3, 3), k=3, n_null=19)
