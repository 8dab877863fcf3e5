"Accuracy before training: what is guaranteed, what is predicted, and what is refused."
import math, warnings
import numpy as np, pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.data.records import MultimodalRecords
from mmkit.data.synthetic import gate, latent_records, records_from_codes
from mmkit.interactions.accuracy import (AccuracyPolicy, AccuracyResult, calibration_error, check_calibration, disagreement_from_classifiers, guaranteed_accuracy, information_bounds,
                                         label_noise, predict_accuracy, stack_without_pairs, table_accuracies, unimodal_posteriors)
from mmkit.interactions.estimate import quantify_interactions

three = lambda p: (p.sum(1), p.sum(0), p.sum(2))
few = dict(n_boot=50, n_null=50)

def codes(name, n, seed=0, **options):
    p = gate(name); a, b, y = np.unravel_index(np.random.default_rng(seed).choice(p.size, n, p=p.ravel()), p.shape)
    return records_from_codes(a, b, y, **options)

@pytest.fixture(scope="module")
def world(): return latent_records(1200, 5, private_a=1, private_b=1, k=3, disjoint=(.3, .3, .4))
@pytest.fixture(scope="module")
def result(world): return quantify_interactions(world, **few)

# --- guaranteed ---
@pytest.mark.parametrize("shape", [(2, 2, 2), (4, 3, 3), (6, 5, 2)])
def test_the_rule_keeps_its_promise_under_every_joint_table(shape):
    rng = np.random.default_rng(1)
    for _ in range(5):
        p = rng.exponential(size=shape); p /= p.sum(); g = guaranteed_accuracy(*three(p)); t = three(p)
        move = rng.normal(size=shape); move -= move.mean(0); move -= move.mean(1, keepdims=True); move -= move.mean(2, keepdims=True)  # keeps all three tables
        other = p+move*.999*np.min(np.where(move < 0, -p/np.where(move < 0, move, 1), np.inf))
        np.testing.assert_allclose([x.sum() for x in three(other)], 1); assert all(np.allclose(u, v) for u, v in zip(t, three(other)))
        for q in (p, other): assert (q*g.rule).sum() >= g.accuracy-1e-7 and q.max(2).sum() >= g.accuracy-1e-7
        assert g.accuracy >= max(t[0].max(1).sum(), t[1].max(1).sum())-1e-8

def test_the_programme_equals_a_search_on_two_by_two():
    "With 2x2x2 all joint tables lie on a segment, so the worst one can be searched."
    rng, sign = np.random.default_rng(2), np.fromfunction(lambda a, b, y: (-1.)**(a+b+y), (2, 2, 2))
    for _ in range(20):
        p = rng.exponential(size=(2, 2, 2)); p /= p.sum()
        ts = np.linspace(-p[sign > 0].min(), p[sign < 0].min(), 4001)
        assert guaranteed_accuracy(*three(p)).accuracy == pytest.approx(min((p+t*sign).max(2).sum() for t in ts), abs=1e-4)

def test_swapping_and_renaming_change_nothing():
    p = np.random.default_rng(3).exponential(size=(4, 3, 3)); g = guaranteed_accuracy(*three(p)).accuracy
    assert guaranteed_accuracy(*three(p.transpose(1, 0, 2))).accuracy == pytest.approx(g, abs=1e-7) and guaranteed_accuracy(*three(p[:, ::-1, [2, 0, 1]])).accuracy == pytest.approx(g, abs=1e-7)

def test_too_large_a_programme_falls_back_to_the_better_single():
    p = np.random.default_rng(4).exponential(size=(60, 60, 6)); p /= p.sum(); g = guaranteed_accuracy(*three(p))
    assert g.accuracy == pytest.approx(max(x.max(1).sum() for x in three(p)[:2]), abs=1e-6) and (p*g.rule).sum() == pytest.approx(g.accuracy, abs=1e-6)
    assert sum((e*x).sum() for e, x in zip(g.prices, three(p))) == pytest.approx(g.accuracy, abs=1e-6)

# --- predictions ---
def test_the_additive_prediction_is_exact_when_views_are_independent_given_the_label():
    p = gate("bsc_10_20"); assert table_accuracies(three(p), 1e9)[0][2] == pytest.approx(p.max(2).sum(), abs=1e-4)

def test_evidence_given_twice_is_counted_once():
    rng = np.random.default_rng(5); q = rng.dirichlet(np.ones(4), 4000); y = (rng.random(4000)[:, None] > q.cumsum(1)).sum(1); score = np.log(q[np.arange(4000), y]).mean()
    fused, w = stack_without_pairs(q, q, score, score, np.bincount(y)/4000, 4000)
    assert w[:2].sum() == pytest.approx(1, abs=.1) and fused.max(1).mean() == pytest.approx(q.max(1).mean(), abs=.02)

def test_a_blind_modality_gets_no_say():
    rng = np.random.default_rng(6); q = rng.dirichlet(np.full(3, .5), 3000); y = (rng.random(3000)[:, None] > q.cumsum(1)).sum(1); blind = np.full((3000, 3), 1/3)
    fused, _ = stack_without_pairs(q, blind, np.log(np.maximum(q[np.arange(3000), y], 1e-13)).mean(), math.log(1/3), np.bincount(y)/3000, 3000)
    assert fused.max(1).mean() == pytest.approx(q.max(1).mean(), abs=.02)

def test_prediction_from_separate_samples_meets_what_fusion_reaches():
    "Planted: independent views of two classes; the best fusion of all records is known."
    rng = np.random.default_rng(7); n = 3000; y = rng.integers(0, 2, n); a, b = (y[:, None]*1.5+rng.normal(size=(n, 2)) for _ in range(2))
    part = rng.integers(0, 3, n); hide = lambda x, k: np.where((part == k)[:, None], np.nan, x)
    r = MultimodalRecords({"a": hide(a, 1), "b": hide(b, 0)}, label=[int(v) if p < 2 else None for v, p in zip(y, part)])
    e = predict_accuracy(quantify_interactions(r, **few), r, n_boot=30).quantities
    best = np.mean((np.concatenate([a, b], 1).sum(1) > 3) == y)
    assert e["fused"].low-.01 <= best <= e["fused"].high+.01 and e["gain"].low > 0

def test_xor_is_never_predicted_and_never_excluded():
    r = codes("xor", 900, disjoint=(.3, .3, .4)); p = predict_accuracy(quantify_interactions(r, **few), n_boot=30); v, = p.verdicts()
    assert p.quantities["fused"].value < .6 and p.quantities["upper"].high > .95 and v.value == "not_enough_evidence" and v.next_values["n"] > 0

def test_with_labelled_pairs_xor_is_seen():
    p = predict_accuracy(quantify_interactions(codes("xor", 900), **few), n_boot=30)
    assert p.quantities["fused"].value > .9 and p.quantities["lower"].low > .8

def test_and_gains_for_certain():
    p = predict_accuracy(quantify_interactions(codes("and", 3000, disjoint=(.3, .3, .4)), **few), n_boot=30); v, = p.verdicts()
    assert p.quantities["guaranteed_gain"].low > .02 and v.value in ("pass", "warn") and v.estimate.low > v.threshold

def test_a_label_that_one_modality_copies_leaves_no_room():
    v, = predict_accuracy(quantify_interactions(codes("copy_a", 1500, disjoint=(.3, .3, .4)), **few), n_boot=30).verdicts(AccuracyPolicy(min_gain=.1))
    assert v.value == "fail" and v.estimate.high < .1

# --- the result ---
def test_verdict_never_contradicts_the_number(result, world):
    for p in (predict_accuracy(result, n_boot=20), predict_accuracy(result, world, n_boot=20)):
        for g in (0., .01, .05, .2, .9):
            v, = p.verdicts(AccuracyPolicy(min_gain=g)); e = v.estimate
            assert {"pass": e.low > g, "warn": e.low > g, "fail": e.high < g, "not_enough_evidence": e.low <= g <= e.high}[v.value]
            for language in ("en", "ja"): assert all(v.text(part, language) for part in ("what", "rule", "next_step"))

def test_order_of_ends_and_layers(result, world):
    p = predict_accuracy(result, world, n_boot=20); q = p.quantities
    assert all(math.isnan(e.value) or e.low <= e.value <= e.high for e in q.values())
    assert all(0 <= e.low <= e.high <= 1 for k, e in q.items() if "gain" not in k) and q["gain"].value == pytest.approx(q["fused"].value-max(q["single_a"].value, q["single_b"].value))
    assert q["midpoint"].value == pytest.approx((q["lower"].value+q["upper"].value)/2)

def test_more_information_never_lowers_a_bound(result):
    from dataclasses import replace
    more = {k: replace(e, value=e.value+.1, low=e.low+.1, high=e.high+.1) if k.startswith("information") else e for k, e in result.quantities.items()}
    a, b = information_bounds(result), information_bounds(replace(result, quantities=more))
    assert all(getattr(b[k], end) >= getattr(a[k], end)-1e-12 for k in ("lower", "upper", "bounds_a") for end in ("low", "high"))

def test_same_seed_same_result_both_languages_and_json(result, world, tmp_path):
    p, again = (predict_accuracy(result, world, n_boot=20, seed=3) for _ in range(2))
    assert p.quantities["fused"] == again.quantities["fused"] and p.summary() != p.summary("ja") and "{" not in p.summary("ja")
    assert AccuracyResult.from_json(p.to_json()).to_json() == p.to_json()
    for language in ("en", "ja"): page = p.save_html(tmp_path/f"{language}.html", language).read_text(); assert "<img alt" in page

# --- calibration, label noise, classifiers ---
def test_calibration_error_of_honest_and_of_boastful_forecasts():
    rng = np.random.default_rng(8); q = rng.dirichlet(np.ones(3), 1500); y = (rng.random(1500)[:, None] > q.cumsum(1)).sum(1); loud = q**5/(q**5).sum(1, keepdims=True)
    with warnings.catch_warnings(): warnings.simplefilter("error"); check_calibration(q, y, "m")
    with pytest.warns(WeakInputWarning, match="not calibrated"): assert check_calibration(loud, y, "m").value > .15
    assert calibration_error(np.eye(3)[y], y).value == 0

def test_flipped_labels_are_noticed_and_overlap_is_not():
    rng = np.random.default_rng(9); y = rng.integers(0, 2, 900); x = y[:, None]*6+rng.normal(size=(900, 2)); flip = rng.random(900) < .2
    with pytest.warns(WeakInputWarning, match="labels may be wrong"): p = unimodal_posteriors(MultimodalRecords({"x": x}, label=np.where(flip, 1-y, y)), "x")
    assert p.noise == pytest.approx(.2, abs=.08)
    with warnings.catch_warnings(): warnings.simplefilter("error"); assert math.isnan(unimodal_posteriors(MultimodalRecords({"x": x-4*y[:, None]}, label=y), "x").noise)

def test_labelled_records_are_judged_by_folds_that_never_saw_them():
    "Pure noise in many columns: in-sample probabilities would look excellent."
    rng = np.random.default_rng(10); p = unimodal_posteriors(MultimodalRecords({"x": rng.normal(size=(200, 60))}, label=rng.integers(0, 2, 200)), "x")
    assert p.accuracy.value < .65 and p.calibration.value < .2 and p.p_y.max() < .9

def test_disagreement_is_a_valid_bound_and_shrinks_with_calibration_doubt():
    p = gate("bsc_10_10"); rng = np.random.default_rng(11); post = lambda t: t/t.sum(1, keepdims=True)
    draw = lambda n: np.unravel_index(rng.choice(p.size, n, p=p.ravel()), p.shape); a, b, _ = draw(1500); a1, _, y1 = draw(800); _, b2, y2 = draw(800)
    e = disagreement_from_classifiers(post(p.sum(1))[a], post(p.sum(0))[b], (post(p.sum(1))[a1], y1), (post(p.sum(0))[b2], y2), n_boot=40)
    assert 0 < e.low <= .2110814521 and e.chance == 0
    loud = lambda q: q**4/(q**4).sum(1, keepdims=True)
    with pytest.warns(WeakInputWarning, match="not calibrated"): disagreement_from_classifiers(post(p.sum(1))[a], post(p.sum(0))[b], (loud(post(p.sum(1)))[a1], y1), (post(p.sum(0))[b2], y2), n_boot=20)

GOOD, Y = np.full((4, 2), .5), np.array([0, 1, 0, 1])
@pytest.mark.parametrize("change, words", [
    (dict(p_y_a=GOOD*2), "do not sum to 1"), (dict(p_y_a=np.where(np.eye(4, 2) > 0, np.nan, GOOD)), "NaN"), (dict(p_y_b=GOOD[:3]), "same records"), (dict(p_y_a=np.full((4, 3), 1/3)), "same classes"),
    (dict(labelled_a=GOOD), "two arrays"), (dict(labelled_a=(GOOD, Y[:3])), "records"), (dict(labelled_b=(GOOD, Y+1)), "class numbers"), (dict(p_y_a=-GOOD), "negative"), (dict(p_y_a=GOOD[:, :1]*2), "at least two classes"), (dict(p_y_a=[["x", "y"]]*4), "not numbers")])
def test_disagreement_refuses_in_words(change, words):
    with pytest.raises(InputError, match=words): disagreement_from_classifiers(**(dict(p_y_a=GOOD, p_y_b=GOOD, labelled_a=(GOOD, Y), labelled_b=(GOOD, Y)) | change))

def test_other_bad_input_is_refused_in_words(result, world):
    for call, words in ((lambda: predict_accuracy(world), "quantify_interactions"), (lambda: predict_accuracy(result, latent_records(50, 0, shared=1)), "fingerprints"), (lambda: predict_accuracy(result, [1]), "MultimodalRecords"),
                        (lambda: predict_accuracy(result, n_boot=1), "n_boot"), (lambda: unimodal_posteriors(world, "c"), "not known"), (lambda: AccuracyPolicy(min_gain=2), "min_gain"),
                        (lambda: unimodal_posteriors(records_from_codes([0, 1, 2, 0], [0, 1, 0, 1], [0, 0, 0, 1]), "a"), "at least 2")):
        with pytest.raises(InputError, match=words): call()
