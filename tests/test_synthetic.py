"Known answers and hostile arguments of `mmkit.data.synthetic`."
import warnings
import numpy as np, pytest
from hypothesis import given, settings, strategies as st
from mmkit.checks import InputError
from mmkit.data.synthetic import GATES, PARTS, gate, latent_records, random_table, records_from_codes, sample

def info(p, axis_a, axis_b): # mutual information in bits of two groups of axes
    q = np.transpose(p, (*axis_a, *axis_b)).reshape(np.prod([p.shape[a] for a in axis_a]), -1); e = q.sum(1, keepdims=True)*q.sum(0); return float((q[q > 0]*np.log2(q[q > 0]/e[q > 0])).sum())

@pytest.mark.parametrize("name", GATES)
def test_gate_values_agree_with_plain_information(name):
    p, g = gate(name), GATES[name]
    assert p.min() >= 0 and abs(p.sum()-1) < 1e-12 and set(g) == set(PARTS)
    assert abs(info(p, (0, 1), (2,))-g["total"]) < 1e-9
    assert abs(info(p.sum(1), (0,), (1,))-g["redundancy"]-g["unique_a"]) < 1e-9 and abs(info(p.sum(0), (0,), (1,))-g["redundancy"]-g["unique_b"]) < 1e-9
    given_b = sum(p[:, b].sum()*info(p[:, b]/p[:, b].sum(), (0,), (1,)) for b in range(p.shape[1]) if p[:, b].sum())
    assert abs(given_b-g["unique_a"]-g["synergy"]) < 1e-9   # U_a + S = I(A;Y|B)

def test_written_down_tables():
    assert gate("xor").tolist() == [[[.25, 0], [0, .25]], [[0, .25], [.25, 0]]]
    assert gate("sum")[1, 1].tolist() == [0, 0, .25] and gate("rdnunqxor").shape == (8, 8, 16) and gate("and_sub").shape == (4, 2, 2)
    assert np.allclose(gate("rdnerr").sum(0), [[.375, .125], [.125, .375]]) and gate("pntunq")[2, 0, 1] == .25
    assert np.allclose(gate("noisy_xor")[0, 0], [.225, .025]) and np.allclose(gate("bsc_10_20")[0, 0, 0], .5*.9*.8)

def test_gates_are_fresh_arrays():
    p = gate("xor"); p[:] = 0; assert gate("xor").sum() == 1

@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 999), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_random_tables_are_probabilities(n_a, n_b, k, seed, zeros, deterministic, ties):
    kw = dict(zeros=zeros, deterministic=deterministic, ties=ties); p = random_table(n_a, n_b, k, seed, **kw)
    assert p.shape == (n_a, n_b, k) and p.min() >= 0 and abs(p.sum()-1) < 1e-9 and (p == random_table(n_a, n_b, k, seed, **kw)).all()

@settings(max_examples=20, deadline=None)
@given(st.sampled_from(sorted(GATES)), st.integers(0, 99))
def test_sample_follows_the_table(name, seed):
    p = gate(name); cells = sample(p, 4000, seed); counts = np.zeros(p.shape); np.add.at(counts, cells, 1)
    assert (counts[p == 0] == 0).all() and np.abs(counts/4000-p).max() < .05

@pytest.mark.parametrize("call, words", [
    (lambda: gate("xro"), "Did you mean `xor`"), (lambda: sample(np.zeros((2, 2, 2)), 5), "0 everywhere"), (lambda: sample(-gate("xor"), 5), "negative"),
    (lambda: sample(np.ones((2, 2)), 5), "3 were expected"), (lambda: random_table(0, 2, 2), "`n_a` is 0"), (lambda: random_table(2, 2, 2, zeros=2), "`zeros` is 2"),
    (lambda: records_from_codes([1], [1, 2], [1]), "1, 2 and 1 entries"), (lambda: records_from_codes([1, 2], [1, 2], [1, 2], label_share=1.5), "`label_share`"),
    (lambda: records_from_codes([1, 2], [1, 2], [1, 2], disjoint=(.5, .5)), "three shares"), (lambda: latent_records(100), "at least one cause"),
    (lambda: latent_records(100, shared=6), "`shared` is 6"), (lambda: latent_records(100, shared=1, k=1), "`k` is 1")])
def test_refused(call, words):
    with pytest.raises(InputError, match=words): call()

def test_records_hide_what_they_should_and_are_silent():
    with warnings.catch_warnings(action="error"):
        a, b, y = sample(gate("copy_a"), 1000, 1); r = records_from_codes(a, b, y, names=("image", "text"), disjoint=(.5, .25, .25), label_share=.4)
    see = np.array([r.present("image"), r.present("text"), r.codes >= 0])
    assert see[0].sum() == 750 and see[1].sum() == 500 and (see.sum(0) <= 2).all() and see[:2].any(0).all()
    x, codes = r.labelled("image"); assert (x.ravel() == np.array(r.classes)[codes]).all()
    assert records_from_codes(a, b, y, label_share=0).classes == () and (records_from_codes(a, b, y).modalities["a"] == a).all()

def test_latent_records_have_equal_classes_and_a_split():
    r = latent_records(1000, seed=4, shared=2, private_a=1, joint=1, k=4, label_share=.5)
    assert np.bincount(r.codes[r.codes >= 0]).sum() == 500 and r.numeric("a").shape == (1000, 64)
    assert {s: int((r.groups["split"] == s).sum()) for s in ("train", "validation", "test")} == dict(train=700, validation=150, test=150)
    assert r.fingerprint == latent_records(1000, seed=4, shared=2, private_a=1, joint=1, k=4, label_share=.5).fingerprint != latent_records(1000, seed=5, shared=2).fingerprint

def test_a_product_is_found_only_together():
    from sklearn.linear_model import LogisticRegression
    a, b, y = latent_records(3000, seed=1, joint=1, dropout=0).triples("a", "b"); pca = lambda x: np.linalg.svd(x-x.mean(0), full_matrices=False)[0][:, :10]*50
    u, v = pca(a), pca(b); both = np.einsum("ni,nj->nij", u, v).reshape(len(u), -1); train = np.arange(3000) < 2000
    score = lambda x: LogisticRegression(C=.01, max_iter=300).fit(x[train], y[train]).score(x[~train], y[~train])
    assert score(np.c_[u, v]) < .56 and score(both) > .85
