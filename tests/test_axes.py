"""What the cells of the axes notebook cannot hold: invariances, limits, hostile input, the packaged map."""
import warnings
import numpy as np, pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.alignment.axes import AxesPolicy, conditioning, log_condition, measure_axes, predictability, redundancy_share, ridge_fit, study_map
from mmkit.data.records import MultimodalRecords
from mmkit.interactions.estimate import quantify_interactions

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 3))

def records(n=300, noise=.3, seed=0):
    rng = np.random.default_rng(seed); y = rng.integers(0, 2, n); side = lambda: np.c_[y+noise*rng.normal(size=n), rng.normal(size=n)]
    return MultimodalRecords({"a": side(), "b": side()}, label=y.tolist())

@pytest.mark.parametrize("turn", [np.linalg.qr(RNG.normal(size=(3, 3)))[0], np.diag([1., 5., .2])])
def test_linear_relations_leave_nothing_for_the_nonlinear_rule(turn):
    p = predictability(X, X @ turn)
    assert p["linear"].low > .99 and p["nonlinearity"].high < .01

def test_unrelated_sides_predict_nothing():
    p = predictability(X, RNG.normal(size=(300, 2)))
    assert p["linear"].high < .05 and abs(p["nonlinearity"].value) < .05

def test_a_product_is_seen_by_the_nonlinear_rule_only():
    p = predictability(X, (X[:, 0]*X[:, 1])[:, None])
    assert p["linear"].value < .1 and p["nonlinearity"].low > .5

def test_units_do_not_matter():
    y = np.abs(X); one, other = predictability(X, y), predictability(X*[1, 100, .01], y*[7, 1, 3])
    assert one["nonlinearity"].value == pytest.approx(other["nonlinearity"].value, abs=1e-6)
    assert log_condition(X*[1, 100, .01]) == pytest.approx(log_condition(X), abs=1e-9)

def test_the_condition_number_of_unrelated_columns_is_near_its_chance_level():
    e = conditioning(RNG.normal(size=(4000, 200)))
    assert e.value == pytest.approx(e.chance, abs=.02) and e.low <= e.value <= e.high

def test_wide_features_are_limited_and_said_so():
    with pytest.warns(WeakInputWarning, match="leading directions"): conditioning(RNG.normal(size=(100, 60)))

def test_the_share_is_the_redundancy_over_the_label_entropy():
    r = quantify_interactions(records(), n_boot=50, n_null=50); e, q = redundancy_share(r), r.quantities["redundancy"]
    assert (e.value, e.low, e.high) == pytest.approx((q.value/r.label_entropy, q.low/r.label_entropy, q.high/r.label_entropy))

def test_two_clear_views_of_a_label_share_it_and_two_blind_ones_do_not():
    clear, blind = (measure_axes(records(noise=s, seed=1), rows=100, folds=2) for s in (.2, 50.))
    assert clear.quantities["redundancy_share"].low > .5 and blind.quantities["redundancy_share"].high < .2
    assert clear.verdicts()[0].value == "pass" and blind.verdicts()[0].value == "fail"

def test_the_map_is_packaged_and_follows_its_dials():
    cells = study_map(); assert len(cells) == 45
    from scipy.stats import spearmanr
    for d in (1, 3, 5, 7, 9):
        row = [c for c in cells if c["d_phi"] == d]
        assert spearmanr([c["uniqueness"] for c in row], [c["redundancy_share"] for c in row])[0] < -.9
    assert all(0 <= c["accuracy"] <= c["bayes"]+.03 for c in cells)

@pytest.mark.parametrize("wrong", [dict(rows=10), dict(folds=1), dict(rows="many"), dict(modalities=("a", "c"))])
def test_bad_arguments_are_refused_in_words(wrong):
    with pytest.raises(InputError): measure_axes(records(100), **wrong)

@pytest.mark.parametrize("wrong", [dict(min_share=2), dict(max_nonlinearity=-1)])
def test_a_policy_outside_its_range_is_refused(wrong):
    with pytest.raises(InputError): AxesPolicy(**wrong)

def test_ridge_recovers_a_noiseless_linear_map():
    y = X @ np.array([[1.], [2.], [-1.]]); weights, error = ridge_fit(X @ X.T, y)
    assert error < 1e-6
