"Similarity of representations: slow references in float64, invariances, limits, chance levels, ties and inputs that must be refused."
import math, warnings
import numpy as np
import pytest
from mmkit.alignment import similarity as S
from mmkit.alignment.similarity import METRICS, neighbours, similarity, similarity_grid
from mmkit.checks import InputError, WeakInputWarning

NEIGHBOUR = [m for m in METRICS if METRICS[m].kind == "neighbours"]
FEATURE = [m for m in METRICS if METRICS[m].kind == "features"]

def data(n, d_a, d_b, seed=0, shared=6, dtype=float):
    "Two sides with something in common."
    r = np.random.default_rng(seed); z = r.standard_normal((n, shared))
    return tuple((z@r.standard_normal((shared, d))+2*r.standard_normal((n, d))+.3).astype(dtype) for d in (d_a, d_b))

# ---- references: the definitions, written as slowly as they read -----------------------------------------------------

def unit(x): x = np.asarray(x, float); return x/np.linalg.norm(x, axis=1, keepdims=True)

def lists(x, k, itself=False):
    s = (x@x.T).round(12)
    if not itself: np.fill_diagonal(s, -np.inf)
    return np.argsort(-s, axis=1, kind="stable")[:, :k]

def longest(a, b):
    t = np.zeros((len(a)+1, len(b)+1), int)
    for i in range(len(a)):
        for j in range(len(b)): t[i+1, j+1] = t[i, j]+1 if a[i] == b[j] else max(t[i, j+1], t[i+1, j])
    return t[-1, -1]

def levenshtein(a, b):
    t = np.zeros((len(a)+1, len(b)+1), int); t[0], t[:, 0] = np.arange(len(b)+1), np.arange(len(a)+1)
    for i in range(len(a)):
        for j in range(len(b)): t[i+1, j+1] = min(t[i, j+1]+1, t[i+1, j]+1, t[i, j]+(a[i] != b[j]))
    return t[-1, -1]

def hsic_biased(K, L): n = len(K); H = np.eye(n)-1/n; return np.trace(K@H@L@H)
def hsic_unbiased(K, L):
    n = len(K); K, L = K-np.diag(np.diag(K)), L-np.diag(np.diag(L)); one = np.ones(n)
    return ((K*L.T).sum()+(one@K@one)*(one@L@one)/((n-1)*(n-2))-2/(n-2)*(one@K@L@one))/(n*(n-3))
def ratio(h, K, L, K2=None, L2=None): return h(K, L)/(math.sqrt(h(K if K2 is None else K2, K if K2 is None else K2)*h(L if L2 is None else L2, L if L2 is None else L2))+1e-6)

def cknna(a, b, k, biased):
    n = len(a); K, L = a@a.T, b@b.T; mask = []
    for x in (a, b): m = np.zeros((n, n)); np.put_along_axis(m, lists(x, k, biased), 1, 1); mask.append(m)
    h = hsic_biased if biased else hsic_unbiased; both = mask[0]*mask[1]
    return h(both*K, both*L)/(math.sqrt(h(mask[0]*K, mask[0]*K)*h(mask[1]*L, mask[1]*L))+1e-6)

def gaussian(x): d = ((x[:, None]-x[None])**2).sum(2); return np.exp(-d/2)

def reference(a, b, metric, k=10, normalize=True):
    a, b = (unit(a), unit(b)) if normalize else (np.asarray(a, float), np.asarray(b, float)); n = len(a)
    if metric.startswith("cknna"): return cknna(a, b, k, metric.endswith("biased"))
    if METRICS[metric].kind == "neighbours":
        A, B = lists(a, k), lists(b, k)
        if metric == "mutual_knn": return np.mean([len(set(p) & set(q))/k for p, q in zip(A, B)])
        if metric == "cycle_knn": return np.mean([any(i in A[j] for j in B[i]) for i in range(n)])
        if metric == "lcs_knn": return np.mean([longest(p, q) for p, q in zip(A, B)])
        return 1-np.mean([levenshtein(p, q) for p, q in zip(A, B)])/k
    if "rbf" in metric: K, L = gaussian(a), gaussian(b)
    else: K, L = a@a.T, b@b.T
    if metric in ("cka", "cka_rbf"): return ratio(hsic_biased, K, L)
    if metric in ("unbiased_cka", "unbiased_cka_rbf"): return ratio(hsic_unbiased, K, L)
    if metric == "rsa": i = np.triu_indices(n, 1); return np.corrcoef(K[i], L[i])[0, 1]
    a, b = a-a.mean(0), b-b.mean(0)
    if metric == "procrustes": return np.linalg.svd(a.T@b, compute_uv=False).sum()/np.linalg.norm(a)/np.linalg.norm(b)
    left = [np.linalg.svd(x/(x.std(0, ddof=1)+1e-8), full_matrices=False)[0][:, :10] for x in (a, b)]
    return np.linalg.svd(left[0].T@left[1], compute_uv=False).mean()

@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n,d_a,d_b", [(150, 30, 17), (60, 200, 90), (40, 12, 400)])
def test_equals_the_definition(metric, n, d_a, d_b):
    a, b = data(n, d_a, d_b); assert similarity(a, b, metric) == pytest.approx(reference(a, b, metric), abs=1e-6)

@pytest.mark.parametrize("metric", METRICS)
def test_equals_the_definition_in_32_bits(metric):
    a, b = data(700, 64, 40, seed=3, dtype=np.float32); assert similarity(a, b, metric, k=7) == pytest.approx(reference(a, b, metric, k=7), abs=1e-6)

@pytest.mark.filterwarnings("ignore:The constant 1e-6")
@pytest.mark.parametrize("metric", METRICS)
def test_equals_the_definition_for_rows_as_they_are(metric):
    a, b = data(120, 20, 9, seed=4); assert similarity(a/3, b/3, metric, k=6, normalize=False) == pytest.approx(reference(a/3, b/3, metric, 6, False), abs=1e-6)

@pytest.mark.parametrize("metric", METRICS)
def test_grid_equals_one_by_one(metric):
    (a, b), (c, d) = data(90, 20, 9, seed=5), data(90, 130, 31, seed=6); grid = similarity_grid([a, b, d], {"first": c, "last": d}, metric, k=5)
    assert grid.shape == (3, 2)
    for i, x in enumerate((a, b, d)):
        for j, y in enumerate((c, d)): assert grid[i, j] == pytest.approx(similarity(x, y, metric, k=5), abs=1e-9)

# ---- what must not matter, and what must ------------------------------------------------------------------------------

def rotation(d, seed): return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]

@pytest.mark.parametrize("metric", METRICS)
def test_scale_of_rows_and_joint_order_do_not_matter(metric):
    a, b = data(130, 25, 14, seed=7); value = similarity(a, b, metric, k=6); r = np.random.default_rng(0); order = r.permutation(130)
    assert similarity(a*r.uniform(.1, 50, (130, 1)), b*3, metric, k=6) == pytest.approx(value, abs=1e-9)
    assert similarity(a[order], b[order], metric, k=6) == pytest.approx(value, abs=1e-9)
    assert abs(similarity(a[order], b, metric, k=6)-value) > 1e-3  # but the pairing does

@pytest.mark.parametrize("metric", [m for m in METRICS if m != "svcca"])
def test_rotations_do_not_matter(metric):
    a, b = data(130, 25, 14, seed=8); value = similarity(a, b, metric, k=6)
    assert similarity(a@rotation(25, 1), b@rotation(14, 2), metric, k=6) == pytest.approx(value, abs=1e-9)

def test_svcca_sees_columns_but_not_their_order_or_sign():
    a, b = data(130, 25, 14, seed=9); flip = np.sign(np.random.default_rng(0).standard_normal(25)); order = np.random.default_rng(1).permutation(25)
    assert similarity((a*flip)[:, order], b, "svcca") == pytest.approx(similarity(a, b, "svcca"), abs=1e-9)

@pytest.mark.parametrize("metric", METRICS)
def test_itself_range_and_symmetry(metric):
    m = METRICS[metric]; a, b = data(140, 20, 12, seed=10); low, high = m.limits(9); own, value = similarity(a, a, metric, k=9), similarity(a, b, metric, k=9)
    if metric != "cycle_knn": assert own == pytest.approx(high, abs=2e-4)  # the constant 1e-6 of the definitions
    assert low <= value < own <= high+1e-9
    assert (similarity(b, a, metric, k=9) == pytest.approx(value, abs=1e-9)) == m.symmetric

def test_shared_neighbours_of_unrelated_data_are_at_chance():
    r = np.random.default_rng(11); n, k = 200, 10
    values = [similarity(r.standard_normal((n, 8)), r.standard_normal((n, 30)), k=k) for _ in range(40)]
    assert abs(np.mean(values)-METRICS["mutual_knn"].chance_of(n, k, 8, 30)) < 4*np.std(values, ddof=1)/math.sqrt(40)

@pytest.mark.parametrize("d_a,d_b", [(40, 40), (40, 128), (128, 128)])
def test_unbiased_is_near_zero_where_biased_is_not(d_a, d_b):
    r = np.random.default_rng(12); a, b = r.standard_normal((400, d_a)), r.standard_normal((400, d_b))
    assert abs(similarity(a, b, "unbiased_cka")) < .02 and abs(similarity(a, b, "rsa")) < .02 and abs(similarity(a, b, "cknna")) < .05
    if d_a*d_b > 40*40: assert similarity(a, b, "cka") > .1
    assert similarity(a, b, "cka") == pytest.approx(METRICS["cka"].chance_of(400, 10, d_a, d_b), rel=.1)

def test_chance_formulas():
    r = np.random.default_rng(13); a, b = r.standard_normal((400, 60)), r.standard_normal((400, 60))
    assert similarity(a, b, "svcca") == pytest.approx(METRICS["svcca"].chance_of(400, 10, 60, 60), abs=.04)
    assert similarity(a, b, "cycle_knn") == pytest.approx(METRICS["cycle_knn"].chance_of(400, 10, 60, 60), abs=.08)
    a, b = r.standard_normal((3000, 60)), r.standard_normal((3000, 20)); assert .84*math.sqrt(20/3000) < similarity(a, b, "procrustes") < math.sqrt(20/3000)

# ---- neighbours and ties ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n,d,k", [(2, 3, 1), (9, 4, 8), (511, 5, 3), (512, 40, 10), (513, 40, 10), (1100, 300, 100), (700, 2, 10), (600, 1, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_equal_the_full_sort(n, d, k, dtype):
    x = (np.random.default_rng(n+d).standard_normal((n, d))+.5).astype(dtype)
    with warnings.catch_warnings(): warnings.simplefilter("ignore", WeakInputWarning); found = neighbours(x, k)
    assert found.dtype == np.int32 and found.shape == (n, k) and np.array_equal(found, lists(unit(x), k))

@pytest.mark.filterwarnings("ignore::mmkit.checks.WeakInputWarning")
@pytest.mark.parametrize("normalize", [True, False])
def test_ties_go_by_row_number(normalize):
    r = np.random.default_rng(14); x = r.integers(-1, 2, (900, 4))+np.array([2, 0, 0, 0])  # whole numbers: nearly all cosines are ties
    assert np.array_equal(neighbours(x, 12, normalize), lists(unit(x) if normalize else x.astype(float), 12))

@pytest.mark.filterwarnings("ignore::mmkit.checks.WeakInputWarning")
@pytest.mark.parametrize("dtype,copies", [(np.float32, 2), (np.float32, 40), (np.float64, 40)])
def test_copies_tie_wherever_they_stand(dtype, copies):
    "Copies far apart lie in different tiles, where BLAS may add in another order."
    r = np.random.default_rng(15); own = r.standard_normal((1300//copies, 97)).astype(dtype); which = r.permutation(np.arange(1300) % len(own)); x = own[which]
    s = (unit(own)@unit(own).T).round(12)[which][:, which]; np.fill_diagonal(s, -np.inf)
    assert np.array_equal(neighbours(x, 10), np.argsort(-s, axis=1, kind="stable")[:, :10])

def test_threads_change_nothing():
    from threadpoolctl import threadpool_limits
    x = data(1400, 70, 9, seed=16, dtype=np.float32)[0]
    with threadpool_limits(1): one = neighbours(x, 10)
    with threadpool_limits(2): assert np.array_equal(neighbours(x, 10), one)

def test_many_copies_are_reported():
    x = np.random.default_rng(17).standard_normal((300, 8)); y = x.copy(); y[:60] = y[60:120]
    with pytest.warns(WeakInputWarning, match="120 of the 300 rows of `x_b` have a copy"): similarity(x, y)
    with warnings.catch_warnings(): warnings.simplefilter("error"); similarity(x, x)

def test_memory_stays_small():
    import tracemalloc
    x = np.random.default_rng(18).standard_normal((3000, 64)).astype(np.float32); tracemalloc.start()
    try: neighbours(x, 10); assert tracemalloc.get_traced_memory()[1] < 3000*3000  # bytes: a quarter of the full matrix in float32
    finally: tracemalloc.stop()

# ---- what is accepted, what is refused -------------------------------------------------------------------------------

def test_many_kinds_of_arrays(tmp_path):
    import pandas as pd, torch
    a, b = data(60, 6, 5, seed=19, dtype=np.float32); value = similarity(a, b)
    disk = np.lib.format.open_memmap(tmp_path/"a.npy", mode="w+", dtype=np.float32, shape=a.shape); disk[:] = a; disk.flush(); disk = np.load(tmp_path/"a.npy", mmap_mode="r")
    for x in (torch.from_numpy(a), torch.from_numpy(a).requires_grad_(), a.tolist(), pd.DataFrame(a), disk, a[::1].copy(order="F"), a.astype(">f4")): assert similarity(x, b) == pytest.approx(value, abs=1e-12)
    assert similarity(a.astype(np.float16), b) == pytest.approx(value, abs=.05) and similarity(torch.from_numpy(a).bfloat16(), b) == pytest.approx(value, abs=.2)
    for metric in ("cka", "rsa"): assert similarity(disk, b, metric) == pytest.approx(similarity(a, b, metric), abs=1e-7)
    assert np.array_equal(disk, a)

def refused(words, *args, call=similarity, **options):
    with pytest.raises(InputError, match=words): call(*args, **options)

def test_refusals():
    a, b = data(30, 6, 5, seed=20); bad = a.copy(); bad[3, 1] = np.nan; zero = a.copy(); zero[[4, 9]] = 0
    refused("30 records but `x_b` has 29", a, b[1:]); refused("has only 29 others", a, b, k=30); refused("whole number ≥ 1", a, b, k=0); refused("whole number", a, b, k=2.5)
    refused("whole number ≥ 2", a, b, "cknna", 1)
    refused("Did you mean `mutual_knn`", a, b, "mutual_kn"); refused("row 3", bad, b); refused("`x_b` holds 1 NaN", b, bad); refused("65,504", np.float16(np.where(np.isnan(bad), np.inf, a)), b)
    for metric in METRICS: refused(r"rows of zeros \(row 4 first\)", b, zero, metric)
    similarity(b, zero, normalize=False)
    refused("2 were expected", a[0], b); refused("no columns", a[:, :0], b); refused("not numbers", [["a", "b"]]*30, b); refused("different lengths", [[1., 2.], [3.]], b); refused("complex", a+1j, b)
    refused("0 dimensions", None, b)

@pytest.mark.parametrize("metric", METRICS)
def test_constant_sides_are_refused(metric):
    a = data(30, 6, 5, seed=21)[0]
    for same in (np.ones((30, 4)), np.arange(1, 31)[:, None]*np.array([[1., 2, 3]]), np.full((30, 2), .1, np.float32)): refused("the same, or point the same way", same, a, metric)
    refused("the same, or point the same way", a, np.ones((30, 4)), metric, normalize=False)

@pytest.mark.parametrize("metric,n", [(m, METRICS[m].least_n) for m in METRICS])
def test_fewest_records(metric, n):
    a, b = data(n, 6, 5, seed=22); k = min(2, n-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakInputWarning)  # an undefined score of four records is NaN and says so
        assert isinstance(similarity(a, b, metric, k), float)
    refused("needs at least|has only", a[:n-1], b[:n-1], metric, k)

def test_undefined_scores_say_so():
    with pytest.warns(WeakInputWarning, match="undefined"): assert math.isnan(similarity(*data(4, 6, 5, seed=11), "cknna", 2))

def test_extreme_scales():
    a, b = data(80, 7, 6, seed=23); value = similarity(a, b)
    for scale in (1e-200, 1e200): assert similarity(a*scale, b) == value; assert similarity(a*scale, b, "cka") == pytest.approx(similarity(a, b, "cka"))
    for scale in (1e-30, 1e30): assert similarity((a*scale).astype(np.float32), b) == value
    for metric in METRICS: refused("too long|too large", a*1e200, b, metric, normalize=False)
    mixed = a*np.logspace(-6, 6, 80)[:, None]; assert similarity(mixed, b, normalize=False) == pytest.approx(reference(mixed, b, "mutual_knn", 10, False))

def test_layers():
    a, b = data(40, 6, 5, seed=24)
    for bad, words in (([], "empty"), ([a, a[1:]], "layers_a\\[1\\]"), (a, "2 dimensions"), ([a, a*np.nan], "layers_a\\[1\\]"), ({"x": a, "y": a[:3]}, "'y'")): refused(words, bad, [b], call=similarity_grid)
    refused("layers_b\\[0\\]", [a], [b[:-1]], call=similarity_grid); refused("Did you mean `cka`", [a], [b], "ckaa", call=similarity_grid)
    assert similarity_grid(np.stack([a, a*2]), (b,)).shape == (2, 1)

@pytest.mark.parametrize("metric", METRICS)
def test_progress_reaches_its_end(metric):
    a, b = data(50, 6, 5, seed=25); seen = []; similarity_grid([a, a[:, :3]], [b], metric, progress=lambda done, total, what: seen.append((done, total)))
    assert seen and seen[-1][0] == seen[-1][1] and all(x < y for x, y in zip(seen, seen[1:]))

def test_stop_from_progress():
    class Stop(Exception): pass
    def progress(done, total, what): raise Stop
    with pytest.raises(Stop): neighbours(data(1500, 6, 5, seed=26)[0], 5, progress=progress)
    assert similarity(*data(50, 6, 5, seed=25)) > 0  # threads are as before

# ---- a random draw of records ------------------------------------------------------------------------------------------

def test_sample_covers_the_full_value():
    a, b = data(1200, 20, 12, seed=27, dtype=np.float32); truth = similarity(a, b); near = [neighbours(x, 10) for x in (a, b)]; y = S.shared(*near)/10
    hits = 0
    for seed in range(400):
        value, error, low, high = S._sampled(y[np.random.default_rng(seed).choice(1200, 100, replace=False)], 1200); hits += low <= truth <= high
    assert .92 <= hits/400 <= .98
    drawn = S.similarity_sample(a, b, queries=300, seed=5); rows = np.sort(np.random.default_rng(5).choice(1200, 300, replace=False))
    assert drawn.estimate.value == pytest.approx(y[rows].mean()) and drawn.estimate.chance == 10/1199
    whole = S.similarity_sample(a, b, queries=5000); assert whole.estimate.value == pytest.approx(truth) and whole.estimate.low == whole.estimate.high and whole.queries == 1200

def test_sample_of_a_file_and_other_scores(tmp_path):
    a, b = data(3000, 20, 12, seed=28); np.save(tmp_path/"a.npy", a.astype(np.float16)); disk = np.load(tmp_path/"a.npy", mmap_mode="r")
    for metric in ("lcs_knn", "edit_distance_knn"):
        drawn = S.similarity_sample(disk, b, metric, queries=1500); assert drawn.estimate.low <= similarity(np.asarray(disk), b, metric) <= drawn.estimate.high
    refused("reads the features in blocks", disk, b, "cka", call=S.similarity_sample); refused("cannot be sampled", disk, b, "cycle_knn", call=S.similarity_sample)
    refused("3000 records but", disk, b[1:], call=S.similarity_sample); refused("≥ 2", disk, b, queries=1, call=S.similarity_sample)

def test_index_bias_is_taken_out(monkeypatch):
    pytest.importorskip("faiss"); monkeypatch.setattr(S, "PROBES", 1)
    a, b = data(3000, 20, 12, seed=29, dtype=np.float32); truth = similarity(a, b)
    drawn = S.similarity_sample(a, b, queries=300, more=1500); assert drawn.more == 1500 and .1 < drawn.recall_a < .9
    values = [S.similarity_sample(a, b, queries=300, more=1500, seed=s) for s in range(12)]
    z = [(v.estimate.value-truth)/v.standard_error for v in values]; assert abs(np.mean(z)) < 4/math.sqrt(12) and np.std(z) < 2
    assert S.similarity_sample(a, b, queries=300, more=50).more == 0  # not worth an index: searched exactly

def test_result_travels():
    from mmkit.results import from_plain, to_plain
    a, b = data(200, 6, 5, seed=30); drawn = S.similarity_sample(a, b, queries=50); assert from_plain(to_plain(drawn)) == drawn and "200 records" in repr(drawn)

def test_import_is_light():
    import subprocess, sys
    code = "import sys, mmkit.alignment.similarity; print([m for m in ('torch', 'sklearn', 'matplotlib', 'pandas', 'ibis', 'faiss', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
