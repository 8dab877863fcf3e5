"Fusion: what decides, the zoo, training and comparison: known answers, invariances, limits, hostile input."
import dataclasses, functools, itertools, json, math, subprocess, sys, warnings
import numpy as np, pytest
from mmkit.checks import InputError
from mmkit.data.records import MultimodalRecords
from mmkit.data.synthetic import gate, latent_records, random_table, records_from_codes, sample
from mmkit.interactions.bounds import additive_logit
from mmkit.interactions.estimate import InteractionPolicy, known_quantities, quantify_interactions
from mmkit.interactions.fusion import (FUSIONS, FusionAdvice, FusionComparison, FusionPolicy, beyond_additive, compare_fusions, corrected_interval,
                                       labelled_pairs_needed, recommend_fusion, train_fusion)
from mmkit.language import LANGUAGES, MESSAGES
from mmkit.results import Estimate

three = lambda p: (p.sum(1), p.sum(0), p.sum(2))
quick = dict(n_boot=50, n_null=50)

WORLD = records_from_codes(*sample(gate("noisy_xor"), 1000, 0))

@pytest.fixture(scope="module")
def supervised(): return quantify_interactions(WORLD, **quick)

@pytest.fixture(scope="module")
def blind(): return quantify_interactions(records_from_codes(*sample(gate("noisy_xor"), 3000, 0), disjoint=(1/3, 1/3, 1/3)), **quick)

@pytest.fixture(scope="module")
def data():
    a, b, y = sample(gate("bsc_10_20"), 160, 0); rng = np.random.default_rng(0)
    return np.column_stack([a, rng.normal(size=160)]), np.column_stack([b, rng.normal(size=160)]), y

# ---- what late fusion cannot do

def test_beyond_additive_is_the_loss_that_late_fusion_leaves():
    "By a conic-free route: logistic regression on indicator columns, fitted to the exact table as weights."
    from sklearn.linear_model import LogisticRegression
    for seed in range(2):
        p = random_table(3, 4, 3, seed, deterministic=.5); a, b, y = (v.ravel() for v in np.indices(p.shape))
        x = np.column_stack([np.eye(3)[a], np.eye(4)[b]])
        fit = LogisticRegression(C=1e6, max_iter=5000, tol=1e-7).fit(x, y, sample_weight=p.ravel()*1e3)
        late = -(p.ravel()*fit.predict_log_proba(x)[np.arange(len(y)), y]).sum()/math.log(2)
        best = -(p*np.log2(np.where(p > 0, p/p.sum(2, keepdims=True), 1))).sum()
        assert late-best == pytest.approx(known_quantities(p)["beyond_additive"], abs=2e-4)

def test_an_additive_law_has_nothing_beyond_addition_and_may_have_synergy():
    found = []
    for seed in range(4):
        p = random_table(4, 4, 2, seed, deterministic=.6); q = known_quantities(p.sum(2)[..., None]*additive_logit(*three(p)).shares)
        assert q["beyond_additive"] < 1e-5; found.append(q["synergy"])
    assert max(found) > .02

def test_without_labelled_pairs_complex_is_never_the_answer(blind):
    assert math.isnan(beyond_additive(blind).value) and beyond_additive(blind).low == 0
    for t in (0, 1e-3, .05, .5, 2.): assert recommend_fusion(blind, InteractionPolicy(t)).answer != "complex"
    v = recommend_fusion(blind).verdict
    assert (v.value, v.next_step) == ("not_enough_evidence", "next_label_pairs") and v.next_values["n"] == labelled_pairs_needed((2, 2), 2, .05)

# ---- the answer never contradicts the number

def test_answer_and_number_agree_on_random_estimates(supervised):
    rng = np.random.default_rng(0)
    for _ in range(15):
        low, value, high = np.sort(rng.gamma(.5, .1, 3)); t = float(rng.choice([0., .01, .05, .2]))
        d = Estimate(value, low, high, 0., 500, unit="bits")
        for notes, records in itertools.product(((), ("weak_few_records",), ("weak_sparse",)), (None, WORLD)):
            r = dataclasses.replace(supervised, quantities=supervised.quantities | {"beyond_additive": d}, notes=notes); advice = recommend_fusion(r, InteractionPolicy(t, "origin_user"), records=records)
            want = "not_enough_evidence" if "weak_sparse" in notes or low <= t <= high else "complex" if low > t else "simple" if records else "not_enough_evidence"
            assert advice.answer == want and advice.verdict.estimate is d and set(advice.methods) <= set(FUSIONS)
            leans = advice.answer == "complex" or advice.answer != "simple" and value > t
            assert all((FUSIONS[m].family == "complex") == leans for m in advice.methods)
            if notes and want != "not_enough_evidence": assert advice.verdict.next_step == "next_weak"
            for language in LANGUAGES: assert f"{low:.3f}" in advice.summary(language) and advice.verdict.text("next_step", language) and "{" not in advice.summary(language)

def test_another_policy_gives_another_verdict_and_the_same_evidence(supervised):
    advice = recommend_fusion(supervised, records=WORLD)
    assert advice.answer == "complex" and advice.verdicts(InteractionPolicy(.9))[0].value == "fail" and advice.verdict.value == "pass"

def test_advice_travels_and_shows_itself(supervised, blind, tmp_path):
    for r, language in itertools.product((supervised, blind), LANGUAGES):
        advice = recommend_fusion(r); again = FusionAdvice.from_json(advice.to_json())
        assert again.to_json() == advice.to_json() and again.answer == advice.answer and again.methods == advice.methods
        page = advice.save_html(tmp_path/f"{language}.html", language).read_text()
        assert "<img" in page and ("http://" not in page and "https://" not in page)

def test_simple_is_said_only_of_codes_that_hide_nothing():
    bits = sample(gate("and"), 800, 0); categories = records_from_codes(*bits); r = quantify_interactions(categories, **quick)
    assert recommend_fusion(r, records=categories).answer == "simple" and recommend_fusion(r).verdict.next_step == "next_compare"
    smooth = latent_records(800, 0, joint=1, dropout=0.); r = quantify_interactions(smooth, **quick)
    assert recommend_fusion(r, records=smooth).answer != "simple" and not recommend_fusion(r, records=smooth).exact
    with pytest.raises(InputError, match="fingerprints differ"): recommend_fusion(r, records=categories)

@functools.cache
def compared(): return compare_fusions(WORLD, methods=("additive", "gated"), folds=2, repeats=1, epochs=1)

def measured(value, half, low=.7, **change):
    "A comparison in which complex fusion saves `value` bits and fusion has at least this accuracy."
    c = compared(); c = dataclasses.replace(c, accuracy=c.accuracy | {"fusion": Estimate(.8, low, .9, .5, 1000, "better")})
    return dataclasses.replace(c, bits_over_simple=c.bits_over_simple | {"complex": Estimate(value, value-half, value+half, 0., 1000, "better", "bits")}, **change)

def test_networks_decide_when_they_were_asked(supervised):
    for value, half, want in ((-.1, .05, "simple"), (.3, .1, "complex"), (.04, .1, "not_enough_evidence"), (.06, .1, "not_enough_evidence")):
        advice = recommend_fusion(supervised, comparison=measured(value, half))
        assert advice.answer == want and advice.verdict.estimate.value == value and (FUSIONS[advice.methods[0]].family == "complex") == (value > .05)
        for language in LANGUAGES: assert f"{value:.3f}" in advice.summary(language) and "{" not in advice._repr_html_(language)
    assert recommend_fusion(supervised, comparison=measured(-.1, .05, notes=("weak_few_test",))).verdict.next_step == "next_weak"

def test_a_comparison_that_learnt_nothing_answers_nothing(supervised):
    for value in (-.1, .3):
        v = recommend_fusion(supervised, comparison=measured(value, .05, low=.49)).verdict
        assert (v.value, v.next_step) == ("not_enough_evidence", "next_no_signal") and v.text("next_step", "ja")

def test_a_comparison_must_belong_to_the_result(supervised):
    with pytest.raises(InputError, match="Compare the same"): recommend_fusion(supervised, comparison=measured(.1, .1, label="other"))
    with pytest.raises(InputError, match="at least one of each"): recommend_fusion(supervised, comparison=dataclasses.replace(measured(.1, .1), bits_over_simple={}))
    with pytest.raises(InputError, match="compare_fusions"): recommend_fusion(supervised, comparison=.2)

@pytest.mark.parametrize("wrong", [None, .3, {"synergy": .2}, "xor"])
def test_only_an_interaction_result_is_judged(wrong):
    with pytest.raises(InputError, match="quantify_interactions"): recommend_fusion(wrong)

def test_names_in_the_data_cannot_break_the_page(supervised):
    advice = recommend_fusion(dataclasses.replace(supervised, modality_a="<b>{x}", label="<script>"))
    assert "<script>" not in advice._repr_html_() and "<b>" not in advice._repr_html_(); advice.summary("ja"), advice.verdict.text("what")

# ---- the zoo and its training

@pytest.mark.parametrize("method", FUSIONS)
def test_every_method_trains_on_three_classes_and_predicts_shares(method):
    x_a, x_b, y = latent_records(120, 0, shared=2, k=3).triples("a", "b"); names = np.array(["x", "y", "z"])[y]
    f = train_fusion(x_a, x_b, names, method=method, epochs=15); p = f.predict_proba(x_a, x_b)
    assert p.shape == (120, 3) and np.allclose(p.sum(1), 1) and (p >= 0).all() and set(f.predict(x_a, x_b)) <= set(names)
    assert (f.predict(x_a, x_b) == names).mean() > .45 and FUSIONS[method].about in MESSAGES

@pytest.mark.parametrize("method", ["additive", "tolerant", "attention"])
def test_units_and_shifts_of_the_features_do_not_matter(data, method):
    x_a, x_b, y = data
    p = train_fusion(x_a, x_b, y, method=method, epochs=6).predict_proba(x_a, x_b); scaled = 1e6*x_a-3e6, x_b/512+7
    assert np.allclose(p, train_fusion(*scaled, y, method=method, epochs=6).predict_proba(*scaled), atol=2e-3)

def test_swapping_the_modalities_swaps_the_baselines(data):
    x_a, x_b, y = data
    assert np.array_equal(train_fusion(x_a, x_b, y, method="only_a", epochs=4).predict_proba(x_a, x_b), train_fusion(x_b, x_a, y, method="only_b", epochs=4).predict_proba(x_b, x_a))

def test_a_baseline_ignores_the_other_modality(data):
    f = train_fusion(*data, method="only_a", epochs=4)
    assert np.array_equal(f.predict_proba(data[0], data[1]), f.predict_proba(data[0], -data[1]))

def test_same_seed_same_network_and_another_seed_another(data):
    p = [train_fusion(*data, method="gated", epochs=4, seed=s).predict_proba(*data[:2]) for s in (5, 5, 6)]
    assert np.array_equal(p[0], p[1]) and not np.allclose(p[0], p[2])

def test_agreement_training_agrees_more_and_slack_lets_go(data):
    def distance(**kw):
        import torch
        f = train_fusion(*data, epochs=40, **kw)
        with torch.inference_mode(): a, b = (s.softmax(1) for s in f.net.parts(*(s(v) for s, v in zip(f.scalers, data))))
        return float(((a-b)**2).sum(1).mean())
    free, loose, tight = distance(method="additive"), distance(method="tolerant", slack=.3), distance(method="agreement")
    assert tight < .7*free and tight < loose <= free+.02

def test_slack_zero_is_agreement_and_unlabelled_pairs_change_the_network(data):
    f = lambda **kw: train_fusion(*data, epochs=4, **kw).predict_proba(*data[:2])
    assert np.array_equal(f(method="tolerant", slack=0), f(method="agreement"))
    rng = np.random.default_rng(1); pairs = rng.normal(size=(50, 2)), rng.normal(size=(50, 2))
    assert not np.allclose(f(method="tolerant", slack=0, unlabelled=pairs), f(method="agreement"))

def test_noise_labels_do_not_reach_beyond_chance():
    rng = np.random.default_rng(0); x_a, x_b, y = rng.normal(size=(600, 8)), rng.normal(size=(600, 8)), rng.integers(2, size=600)
    for m in ("additive", "attention"): assert abs((train_fusion(x_a[:300], x_b[:300], y[:300], method=m).predict(x_a[300:], x_b[300:]) == y[300:]).mean()-.5) < .1

def test_wild_values_do_no_harm(data):
    x_a, x_b, y = data; wild = np.column_stack([x_a, np.full(160, 3.), np.where(np.arange(160) == 7, 1e30, 0.)])
    f = train_fusion(wild, x_b, y, epochs=4); new = wild.copy(); new[:, 2] = -1e12
    assert np.isfinite(f.predict_proba(new, x_b)).all() and np.array_equal(f.predict_proba(new, x_b), f.predict_proba(wild, x_b))  # constant in training, so never used

@pytest.mark.parametrize("change, words", [
    (dict(method="tensors"), "Did you mean `tensor`"), (dict(epochs=0), "`epochs`"), (dict(hidden=1.5), "`hidden`"), (dict(seed=-1), "`seed`"), (dict(slack=.1), "method='tolerant'"),
    (dict(method="tolerant", slack=3), "`slack`"), (dict(method="tolerant", unlabelled=(np.zeros((4, 9)), np.zeros((4, 2)))), r"unlabelled\[0\]"), (dict(groups=[1, 2]), "groups")])
def test_mistakes_are_named(data, change, words):
    with pytest.raises(InputError, match=words): train_fusion(*data, **change)

@pytest.mark.parametrize("y, words", [(np.zeros(160), "two classes"), (np.arange(10), "one label"), (np.r_[np.nan, np.ones(159)], "missing labels"), (np.array([None]+[1]*159, object), "missing labels")])
def test_labels_that_cannot_be_used(data, y, words):
    with pytest.raises(InputError, match=words): train_fusion(*data[:2], y)

def test_features_that_cannot_be_used(data):
    x_a, x_b, y = data
    for bad, words in ((np.where(x_a > 9, x_a, np.nan), "NaN"), (x_a[:9], "same records"), (np.array([["u"]]*160), "not numbers")):
        with pytest.raises(InputError, match=words): train_fusion(bad, x_b, y)
    with pytest.raises(InputError, match="at least 10"): train_fusion(x_a[:6], x_b[:6], np.arange(6) % 2)

def test_the_room_opens_without_torch():
    code = """
import sys
class NoTorch:
    def find_spec(name, path=None, target=None):
        if name == "torch": raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, NoTorch)
import numpy as np, mmkit.interactions.fusion as f
try: f.train_fusion(np.ones((20, 2)), np.ones((20, 2)), np.arange(20) % 2)
except Exception as e: print(type(e).__name__, e)"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "MissingPackageError" in out and "torch" in out and "mmkit[networks]" in out

# ---- comparison

def records(n=90, **kw): return latent_records(n, 3, shared=2, **kw)
small = dict(methods=("additive", "gated"), folds=3, repeats=1, epochs=3)

def test_corrected_interval_by_hand():
    from scipy.stats import t
    v = np.array([.5, .6, .7]); m, lo, hi = corrected_interval(v, 1/2, 10**6)
    assert m == pytest.approx(.6) and hi-m == pytest.approx(t.ppf(.975, 2)*math.sqrt((1/3+1/2)*.01)) and m-lo == pytest.approx(hi-m)
    assert corrected_interval([.7]*5, .25, 50)[2] == pytest.approx(.72)  # equal folds: still one record wide

def test_comparison_repeats_travels_and_names_its_picks():
    a, b = (compare_fusions(records(), seed=4, **small) for _ in range(2)); plain = lambda r: json.loads(r.to_json()) | {"provenance": None}
    assert plain(a) == plain(b) and FusionComparison.from_json(a.to_json()).to_json() == a.to_json()
    assert set(a.accuracy) == {"only_a", "only_b", "additive", "gated", "single", "simple", "complex", "fusion"} and a.picked["simple"] == ("additive",)*3
    assert a.over_single["fusion"].value == pytest.approx(a.accuracy["fusion"].value-a.accuracy["single"].value)
    assert a.bits_over_simple["complex"].value == pytest.approx(a.log_loss["simple"].value-a.log_loss["complex"].value)
    assert all(e.low <= e.value <= e.high and e.n == 90 for e in a.estimates().values()) and a.accuracy["single"].chance == pytest.approx(.5, abs=.02)
    for language in LANGUAGES: assert "{" not in a.summary(language) and "<caption>" in a._repr_html_(language); a.plot(language=language)

def test_a_clear_gain_passes_and_a_clear_loss_fails():
    a, b, y = sample(gate("xor"), 240, 0); r = compare_fusions(records_from_codes(a, b, y), methods=("additive", "concat"), repeats=1, epochs=30)
    assert r.over_simple["complex"].low > .05 and [v.value for v in r.verdicts()] == ["pass", "pass"] and r.bits_over_simple["complex"].low > .05
    assert r.verdicts(FusionPolicy(1.))[1].value == "fail"

def test_holes_and_unlabelled_pairs_are_counted():
    r = latent_records(200, 3, shared=2, label_share=.5); x = np.array(r.modalities["a"]); x[:20] = np.nan
    holes = MultimodalRecords({"a": x, "b": r.modalities["b"]}, label=list(r.label)); both = holes.present("a")
    found = compare_fusions(holes, methods=("tolerant",), folds=2, repeats=1, epochs=2)
    assert found.n == (both & (holes.codes >= 0)).sum() and found.n+found.n_left_out == 200 and found.n_unlabelled == (both & (holes.codes < 0)).sum()

def test_groups_stay_together(monkeypatch):
    import mmkit.interactions.fusion as room
    r = records(120); people = np.repeat(np.arange(12), 10); r = MultimodalRecords(dict(r.modalities), label=list(r.label), groups={"person": people})
    seen, outer = [], room._outer_folds
    monkeypatch.setattr(room, "_outer_folds", lambda *a: [seen.append(f) or f for f in outer(*a)])
    compare_fusions(r, groups="person", **small | dict(epochs=1))
    assert len(seen) == 3 and all(not set(people[train]) & set(people[test]) for train, test, _ in seen)

def test_groups_remove_the_flattery_of_repeated_subjects():
    "Labels are random for each person; a person's records are nearly the same: only a leak predicts them."
    rng = np.random.default_rng(0); centre = rng.normal(size=(24, 6)); y = rng.integers(2, size=24)
    x = np.repeat(centre, 6, 0)+.05*rng.normal(size=(144, 6))
    r = MultimodalRecords({"a": x[:, :3], "b": x[:, 3:]}, label=np.repeat(y, 6), groups={"person": np.repeat(np.arange(24), 6)})
    leak, fair = (compare_fusions(r, methods=("concat",), folds=3, repeats=1, epochs=20, groups=g).accuracy["concat"].value for g in (None, "person"))
    assert leak > .9 and fair < .75

@pytest.mark.parametrize("change, words", [
    (dict(methods=("gate",)), "Did you mean `gated`"), (dict(folds=1), "`folds`"), (dict(repeats=0), "`repeats`"), (dict(groups="person"), "groups"), (dict(modalities=("a",)), "two different"),
    (dict(modalities=("a", "c")), "not known"), (dict(modalities="ab"), "two different"), (dict(folds=80), "rarest class"), (dict(groups="split", folds=5), "3 groups")])
def test_comparison_names_mistakes(change, words):
    with pytest.raises(InputError, match=words): compare_fusions(records(), **small | change)

def test_comparison_needs_records_and_labels():
    with pytest.raises(InputError, match="MultimodalRecords"): compare_fusions(np.zeros((5, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="have no"): compare_fusions(MultimodalRecords({"a": np.random.rand(20, 2), "b": np.random.rand(20, 2)}))

def test_an_exception_in_progress_stops_it():
    class Stop(Exception): pass
    def stop(done, total, what): raise Stop
    import torch; threads = torch.get_num_threads()
    with pytest.raises(Stop): train_fusion(np.random.rand(40, 2), np.random.rand(40, 2), np.arange(40) % 2, progress=stop)
    assert torch.get_num_threads() == threads
