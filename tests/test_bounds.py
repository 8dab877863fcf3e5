"Bounds on synergy and accuracy: published values, validity where the released code fails, hostile tables."
import math
import numpy as np, pytest
from mmkit.checks import InputError
from mmkit.data.synthetic import gate
from mmkit.interactions.bounds import _contradiction, accuracy_bounds, disagreement_bound, published_accuracy_bounds, synergy_bounds
from mmkit.interactions.pid import decompose, entropy, mutual_information

three = lambda p: (p.sum(1), p.sum(0), p.sum(2))

def test_a_two_by_two_bracket_is_exact_and_attained():
    rng = np.random.default_rng(1)
    for _ in range(40):
        p = rng.exponential(size=(2, 2, 2)); p /= p.sum(); b = synergy_bounds(*three(p))
        assert b.inner == pytest.approx(b.upper, abs=1e-6) and b.upper == pytest.approx(b.upper_chord, abs=1e-6)

def test_the_inner_value_belongs_to_a_real_distribution():
    rng = np.random.default_rng(2)
    for shape in ((3, 3, 2), (4, 3, 3)):
        p = rng.exponential(size=shape); p /= p.sum(); b = synergy_bounds(*three(p))
        assert b.lower-1e-7 <= b.inner <= b.upper+1e-7 and b.inner > b.lower

def test_the_released_constant_breaks_and_ours_does_not():
    rng, broken = np.random.default_rng(3), 0
    for _ in range(200):
        p = rng.exponential(size=(2, 2, 2)); p /= p.sum(); s = decompose(p).synergy
        ours, theirs = synergy_bounds(*three(p)), synergy_bounds(*three(p), compat="paper")
        assert ours.lower <= s+1e-9 and ours.lower_disagreement <= ours.lower_redundancy+1e-9
        assert theirs.lower_redundancy <= ours.lower_redundancy+1e-7  # a dropped table only loses
        broken += theirs.lower_disagreement > s+1e-9
    assert 2 <= broken <= 22  # 17 of 400 in the study this repeats

def test_published_means_of_random_tables():
    "Exponential weights, 2x2x2: S 0.079, lower 0.035, exact upper 0.226, cell fill 0.330, released 0.707 (60 tables; here 200, another draw)."
    rng = np.random.default_rng(4); rows = []
    for _ in range(200):
        p = rng.exponential(size=(2, 2, 2)); p /= p.sum(); b = synergy_bounds(*three(p)); rows.append((decompose(p).synergy, b.lower, b.upper, b.upper_cell, b.upper_published))
    s, lower, upper, cell, published = np.mean(rows, 0)
    np.testing.assert_allclose((s, lower, upper, published), (.079, .035, .226, .707), atol=.03)
    assert upper < cell < .33  # our caps use all Fréchet limits, so our cell fill is the stronger one

def test_disagreement_needs_only_predictions():
    rng = np.random.default_rng(5); p = rng.exponential(size=(3, 4, 3)); p /= p.sum(); b = synergy_bounds(*three(p)); n = 200_000
    cell = rng.choice(12, n, p=p.sum(2).ravel()); a, c = np.divmod(cell, 4)
    post = lambda t: t/t.sum(1, keepdims=True)
    assert disagreement_bound(post(p.sum(1))[a], post(p.sum(0))[c], b.unique_a, b.unique_b) == pytest.approx(b.lower_disagreement, abs=5e-3)

def test_xor_cannot_be_seen_and_and_is_pinned_down():
    x, a = synergy_bounds(*three(gate("xor"))), synergy_bounds(*three(gate("and")))
    assert (x.lower, x.upper) == (0, pytest.approx(1)) and (a.lower, a.upper) == (pytest.approx(.5, abs=1e-6), pytest.approx(.5, abs=1e-6))

def test_swapping_the_modalities_swaps_the_answer():
    rng = np.random.default_rng(6); p = rng.exponential(size=(4, 3, 3)); b, c = synergy_bounds(*three(p)), synergy_bounds(*three(p.transpose(1, 0, 2)))
    np.testing.assert_allclose([c.lower, c.upper, c.unique_a, c.unique_b], [b.lower, b.upper, b.unique_b, b.unique_a], atol=1e-6)

def test_counts_and_probabilities_are_the_same():
    rng = np.random.default_rng(7); n = rng.integers(1, 50, size=(3, 3, 2)).astype(float); t = three(n)
    assert synergy_bounds(*t).upper == pytest.approx(synergy_bounds(*(x/x.sum() for x in t)).upper, abs=1e-7)

@pytest.mark.parametrize("change, words", [(lambda a, b, c: (a[:, :1], b, c), "labels"), (lambda a, b, c: (a, b, c.T[:1]), "same states"), (lambda a, b, c: (-a, b, c), "negative"),
                                           (lambda a, b, c: (a*[9, .1], b, c), "different populations"), (lambda a, b, c: (a, b, c[0]), "dimensions")])
def test_refusals(change, words):
    p = np.random.default_rng(8).exponential(size=(3, 2, 2))
    with pytest.raises(InputError, match=words): synergy_bounds(*change(*three(p)))

def test_a_triangle_that_cannot_be_is_refused():
    eye = np.eye(2)/2
    assert _contradiction((2, 2, 2), (eye, eye[::-1], eye)) and not _contradiction((2, 2, 2), (eye, eye, eye))
    with pytest.raises(InputError, match="contradict"): synergy_bounds(eye, eye[::-1], eye)

def test_accuracy_bounds_hold_for_every_table_and_the_printed_ones_do_not():
    rng, broken = np.random.default_rng(9), 0
    for _ in range(500):
        p = rng.exponential(size=(5, rng.integers(2, 6)))**rng.choice([1, 3, 6]); p /= p.sum(); best = p.max(1).sum()
        info, h_y, k = mutual_information(p), entropy(p.sum(0)), p.shape[1]
        low, high = accuracy_bounds(info, h_y, k); assert low-1e-9 <= best <= high+1e-9 <= 1+2e-9
        broken += best > published_accuracy_bounds(info, h_y, k).high+1e-9
    assert broken > 20

def test_accuracy_grows_with_information():
    for k in (2, 3, 10):
        grid = [accuracy_bounds(i, math.log2(k), k) for i in np.linspace(0, math.log2(k), 60)]
        assert all(b.low >= a.low-1e-12 and b.high >= a.high-1e-12 for a, b in zip(grid, grid[1:])) and grid[0] == pytest.approx((1/k, 1/k)) and grid[-1] == pytest.approx((1, 1))

@pytest.mark.parametrize("bad", [(-1, 1, 2), (2, 1, 2), (.5, 3, 2), (.5, 1, 1)])
def test_impossible_information_is_refused(bad):
    with pytest.raises(InputError): accuracy_bounds(*bad)
