"The decomposition against published values, an independent optimiser, and a thousand awkward tables."
import numpy as np, pytest
from mmkit.checks import InputError
from mmkit.data.synthetic import GATES, PARTS, gate
from mmkit.interactions.bounds import synergy_bounds
from mmkit.interactions.pid import LN2, _binary_union, _interior_point, decompose, entropy, mutual_information


def awkward(rng, i, k=None):
    "A random table of size 2-12: plain, with zeros, with ties, near-deterministic, with impossible labels."
    n_a, n_b = rng.integers(2, 13, 2); k = k or int(rng.integers(2, 13))
    p = rng.exponential(size=(n_a, n_b, k)); what = i % 5
    if what == 1: p *= rng.random(p.shape) < .5
    if what == 2: p = np.round(2*p)
    if what == 3: p *= (rng.integers(k, size=(n_a, n_b))[..., None] == np.arange(k))+10.**-rng.integers(3, 15)*(rng.random(p.shape) < .5)
    if what == 4: p *= rng.random((n_a, 1, k)) < .5
    return p if (p.sum((0, 1)) > 0).sum() > 1 else awkward(rng, i, k)


@pytest.mark.parametrize("name", sorted(GATES))
def test_gates_have_their_published_values(name):
    known = dict(zip(PARTS, GATES[name])) if not isinstance(GATES[name], dict) else GATES[name]
    d, p = decompose(gate(name)), gate(name)
    for part in ("total", "redundancy", "unique_a", "unique_b", "synergy"): assert getattr(d, part) == pytest.approx(known[part], abs=1e-8), part
    assert synergy_bounds(p.sum(1), p.sum(0), p.sum(2)).lower == pytest.approx(known["synergy_lower"], abs=1e-8)


def test_a_thousand_awkward_tables_are_certified_and_consistent():
    rng = np.random.default_rng(11)
    for i in range(1000):
        p = awkward(rng, i); d = decompose(p); q = p/p.sum()
        assert 0 <= d.gap <= 1e-7, (i, p.shape, d.gap)
        info_a, info_b = mutual_information(q.sum(1)), mutual_information(q.sum(0))
        assert min(d.redundancy, d.unique_a, d.unique_b, d.synergy) >= -1e-12
        np.testing.assert_allclose([d.redundancy+d.unique_a, d.redundancy+d.unique_b, d.redundancy+d.unique_a+d.unique_b+d.synergy], [info_a, info_b, d.total], atol=2e-7)


def test_closed_form_equals_the_general_solver_on_a_thousand_binary_tables():
    rng, worst = np.random.default_rng(12), 0
    for i in range(1000):
        p = awkward(rng, i, k=2); p /= p.sum(); p_ay, p_by = p.sum(1), p.sum(0)
        p_ay, p_by = p_ay[p_ay.sum(1) > 0], p_by[p_by.sum(1) > 0]
        closed, general = _binary_union(p_ay, p_by), _interior_point(p_ay, p_by, 1e-10)
        assert closed[0]-closed[1] < 1e-12  # its own certificate
        worst = max(worst, abs(closed[0]-general[0])/LN2)
    assert worst < 1e-8


def least_information(p):
    "I* of a 2x2x2 table by brute force: one free number a label, a grid that zooms in on the best point of a convex function."
    p_ay, p_by = p.sum(1), p.sum(0)
    low, high = np.maximum(0, p_ay[0]+p_by[0]-p.sum((0, 1))), np.minimum(p_ay[0], p_by[0]); box = low, high
    for _ in range(14):
        s, t = np.meshgrid(*(np.linspace(a, b, 21) for a, b in zip(*box))); x = np.stack([s, t], -1)
        q = np.maximum(np.stack([x, p_ay[0]-x, p_by[0]-x, p_ay[1]-p_by[0]+x], -2), 0)
        h = lambda r: -(r*np.log2(np.where(r > 0, r, 1)))
        info = h(q.sum(-1)).sum(-1)+h(q.sum(-2)).sum(-1)-h(q).sum((-1, -2)); best = np.unravel_index(info.argmin(), info.shape)
        half = (box[1]-box[0])/5; box = np.maximum(low, x[best]-half), np.minimum(high, x[best]+half)
    return info.min()


def test_against_an_independent_optimiser():
    rng = np.random.default_rng(13)
    for _ in range(30):
        p = rng.exponential(size=(2, 2, 2)); p /= p.sum(); d = decompose(p)
        assert d.total-d.synergy == pytest.approx(least_information(p), abs=1e-6)


def test_renaming_states_and_labels_changes_nothing():
    rng = np.random.default_rng(14)
    for shape in [(5, 4, 2), (4, 6, 3), (3, 3, 7)]:
        p = rng.exponential(size=shape); d = decompose(p)
        shuffled = p[rng.permutation(shape[0])][:, rng.permutation(shape[1])][..., rng.permutation(shape[2])]
        e = decompose(1000*shuffled)
        np.testing.assert_allclose([e.redundancy, e.unique_a, e.unique_b, e.synergy], [d.redundancy, d.unique_a, d.unique_b, d.synergy], atol=1e-7)


@pytest.mark.parametrize("tiny", [1e-9, 1e-15, 1e-18, 1e-30])
@pytest.mark.parametrize("k", [2, 3])
def test_masses_near_nothing_do_not_break_the_certificate(tiny, k):
    rng = np.random.default_rng(19); p = rng.exponential(size=(4, 5, k)); p[0, :, 0] = tiny; p[1, :, 1] = tiny; p[:, 2, 1] = tiny
    d, q = decompose(p), decompose(np.where(p == tiny, 0, p))
    assert d.gap <= 1e-7 and d.synergy == pytest.approx(q.synergy, abs=1e-5)


def test_throwing_information_away_never_adds_redundancy_or_union_information():
    rng = np.random.default_rng(15)
    for _ in range(50):
        p = rng.exponential(size=(6, 4, 3)); d = decompose(p); coarse = decompose(p.reshape(3, 2, 4, 3).sum(1))
        assert coarse.redundancy <= d.redundancy+1e-7 and coarse.total-coarse.synergy <= d.total-d.synergy+1e-7


def test_an_uncertified_result_is_never_silent(monkeypatch):
    import mmkit.interactions.pid as pid
    monkeypatch.setattr(pid, "_step", lambda *a: (_ for _ in ()).throw(np.linalg.LinAlgError("broken on purpose")))
    p = np.random.default_rng(16).exponential(size=(4, 4, 3))
    with pytest.warns(UserWarning, match="certified only"): d = pid.decompose(p)
    assert not d.certified and "NOT certified" in repr(d)
    monkeypatch.undo(); true = decompose(p)
    assert abs(d.synergy-true.synergy) <= d.gap+1e-6  # the bracket is wide, but it holds


@pytest.mark.parametrize("bad, words", [([[1, 2], [3, 4]], "3 were expected"), (-np.ones((2, 2, 2)), "negative"), (np.full((2, 2, 2), np.inf), "infinite"),
                                        (np.zeros((2, 2, 2)), "zero everywhere"), (np.ones((2, 2, 1)), "one class only"), ("counts", "not numbers"), (np.ones((0, 2, 2)), "rows")])
def test_refusals(bad, words):
    with pytest.raises(InputError, match=words): decompose(bad)


def test_bounds_hold_and_are_ordered_on_random_tables():
    rng = np.random.default_rng(17)
    for i in range(150):
        p = awkward(rng, i); p = p[:5, :5, :4]
        if (p.sum((0, 1)) > 0).sum() < 2: continue
        p = p/p.sum(); b, d = synergy_bounds(p.sum(1), p.sum(0), p.sum(2)), decompose(p)
        assert b.lower <= d.synergy+2e-7 and d.synergy <= b.upper+2e-7, (i, b, d.synergy)
        assert b.upper <= b.upper_cell+1e-9 and b.upper <= entropy(p.sum((0, 1)))+1e-9
        assert b.redundancy == pytest.approx(d.redundancy, abs=2e-7)


def test_conditionally_independent_modalities_attain_the_lower_bound():
    rng = np.random.default_rng(18)
    for _ in range(20):
        p = np.einsum("y,ya,yb->aby", rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(4), 3), rng.dirichlet(np.ones(5), 3))
        assert synergy_bounds(p.sum(1), p.sum(0), p.sum(2)).lower == pytest.approx(decompose(p).synergy, abs=1e-6)
