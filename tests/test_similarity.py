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

@pytest.mark.parametrize("metric", METRICS)
def test_equals_the_definition_for_rows_as_they_are(metric):
    a, b = data(120, 20, 9, seed=4); assert similarity(a/3, b/3, metric, k=6, normalize=False) == pytest.approx(reference(a/3, b/3, metric, 6, False), abs=1e-6)

@pytest.mark.parametrize("metric", METRICS)
def test_grid_equals_one_by_one(metric):
    (a, b), (c, d) = data(90, 20, 9, seed=5), data(90, 130, 31, seed=6); grid = similarity_grid([a, b, d], {"first": c, "last": d}, metric, k=5)
    assert grid.shape == (3, 2)
    for i, x in enumerate((a, b, d)):
        for j, y in enumerate((c, d)): assert grid[i, j] == pytest.approx(similarity(x, y, metric, k=5), abs=1e-9)
