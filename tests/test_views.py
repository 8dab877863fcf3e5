"Views of two graphs: profiles against their definition, memory that does not grow with pairs, savings for very many records."
import tracemalloc
import numpy as np, pytest
from scipy import sparse
from mmkit.entities import fusion, views
from mmkit.entities.fusion import fuse, held_out_table, standardise
from mmkit.entities.views import Space, View, make_views

def _rows(n, c, seed): x = sparse.random_array((n, c), density=6/c, format="csr", dtype=np.float32, rng=np.random.default_rng(seed)); return views._unit(sparse.csr_array(x))

def _by_definition(x, at, w, width):
    "The profile as its formula says, with all resemblances in one table."
    k = (x @ x.T).toarray() if sparse.issparse(x) else x @ x.T; k = k-np.diag(np.diag(k)); k = k[:, at]; total = k.sum(0)
    k = k*np.sqrt(w)/np.sqrt(total+1e-3); m = len(at)
    if m > width: k = k @ ((np.random.default_rng([1403, m, width]).integers(0, 2, (m, width), dtype=np.int8)*2-1)/np.sqrt(width))
    return k/np.maximum(np.linalg.norm(k, axis=1, keepdims=True), 1e-9)

@pytest.mark.parametrize("width", [16, 200])
@pytest.mark.parametrize("dense", [False, True])
def test_a_profile_is_what_its_formula_says(width, dense):
    x = _rows(120, 80, 0); x = np.abs(x.toarray()) if dense else x; r = np.random.default_rng(1); at = np.r_[r.permutation(120)[:60], [3, 3]]; w = r.random(62)
    got, expected = views._profile(x, at, w, width, False), _by_definition(x, at, w, width)
    there = np.linalg.norm(expected, axis=1) > .5; np.testing.assert_allclose(got[there], expected[there], atol=2e-4)

@pytest.mark.parametrize("width", [8, 64])
def test_an_anchor_that_resembles_nobody_else_stays_silent(width):
    x = _rows(50, 40, 2).tolil(); x[7] = 0; x = sparse.hstack([x.tocsr(), sparse.csr_array(np.eye(50, 1, -7, dtype=np.float32))]).tocsr() # record 7 has one word, and nobody else has it
    assert not views._profile(sparse.csr_array(x), np.arange(30), np.ones(30), width, False)[7].any()

def test_memory_of_a_profile_does_not_grow_with_pairs():
    x = _rows(8000, 3000, 3); tracemalloc.start(); views._profile(x, np.arange(8000), np.ones(8000), 64, False); peak = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
    assert peak < 60e6 # all resemblances at once would take 256e6

def test_all_views_together_keep_to_their_memory(monkeypatch):
    for n in (10, 20_000, 200_000, 10**7): assert views.widest(n) >= 64 and (views.widest(n) == 64 or views.widest(n)*4*views.VIEWS*n <= views.BYTES)
    monkeypatch.setattr(views, "BYTES", 70*4*views.VIEWS*400); x = _rows(200, 90, 4)
    assert {v.z_a.shape[1] for v in make_views([Space("x", "text", x, x, ("anchored",))], np.stack([np.arange(150)]*2, 1), width=1024)} == {70}

def _pair(n=900, d=12, seed=5): r = np.random.default_rng(seed); t = r.normal(size=(n, d)); return [standardise(View(m, m, *(views._unit((t+s*r.normal(size=t.shape)).astype(np.float32)) for _ in "ab"))) for m, s in (("x", .6), ("y", .9))]

def test_hubs_measured_on_a_sample_leave_the_order_nearly_as_it_is(monkeypatch):
    whole = _pair(); monkeypatch.setattr(fusion, "DENSE", 1000); monkeypatch.setattr(fusion, "HUBS", 300); some = _pair()
    for v, s in zip(whole, some):
        a, b = v.z_a @ v.z_b.T, s.z_a @ s.z_b.T; assert abs(b.mean()) < .1 and abs(b.std()-1) < .1 and np.corrcoef(a.ravel(), b.ravel())[0, 1] > .97

def test_held_out_tables_hold_exact_scores_however_narrow_the_search():
    v = _pair(); links = np.stack([np.arange(300, 500)]*2, 1); few = fusion._narrowed([(1., x) for x in v], 8); exact = held_out_table(v, links, [1., 1.], 20); narrow = held_out_table(v, links, [1., 1.], 20, fused=few)
    assert few[0].shape[1] == 8+2*len(v) < fuse(v, [1., 1.])[0].shape[1]
    for (f, t), (g, u) in zip(exact, narrow): np.testing.assert_allclose(f[np.arange(200), t], g[np.arange(200), u], atol=1e-4)

def test_only_very_many_records_narrow_the_search(monkeypatch):
    r = np.random.default_rng(6); v = [standardise(View("x", "text", *r.normal(size=(2, 300, 300)).astype(np.float32)))]; assert fuse(v, [1.])[0].shape[1] == 302
    monkeypatch.setattr(fusion, "PRODUCT", 280*300**2); assert fuse(v, [1.])[0].shape[1] == 280

def test_a_partner_outside_the_pool_never_competes():
    v = _pair(300); links = np.stack([np.arange(100, 150)]*2, 1); free = np.arange(100, 300); seen = [View(x.name, x.modality, x.z_a, x.z_b[free]) for x in v]
    inside = held_out_table(seen, np.stack([links[:, 0], links[:, 1]-100], 1), [1., 1.], 10); outside = held_out_table(v, links, [1., 1.], 10, among=free)
    for (f, t), (g, u) in zip(inside, outside): np.testing.assert_allclose(f, g, atol=1e-4); np.testing.assert_array_equal(t, u)
