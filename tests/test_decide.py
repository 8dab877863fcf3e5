"Arms against misalignment: known answers, invariances, limits, planted truth, hostile input, and verdicts that agree with their money."
import math, subprocess, sys
from dataclasses import replace
import numpy as np, pytest
from mmkit.checks import InputError
from mmkit.data.records import MultimodalRecords
from mmkit.language import MESSAGES, say
from mmkit.misalignment.decide import (ARMS, ArmsPolicy, ArmsResult, MisalignmentAdvice, MisalignmentCosts, arm_words, caption_world, compact, compare_arms, decide_misalignment, differences, erase, experiments, fit_head,
                                       fold_of, perfect_information, predicted, price_of, retrieved, route, simultaneous, stand_in, suspicion_of, twins)
from mmkit.results import Estimate

pytestmark = pytest.mark.filterwarnings("ignore::mmkit.checks.WeakInputWarning")
QUICK = dict(repeats=1, folds=3)

@pytest.fixture(scope="module")
def noisy():
    records, true, wrong = caption_world(150, .4, seed=1100)
    return records, true, wrong, compare_arms(records, **QUICK)

# ---- learner and task

def test_the_head_ignores_units_and_shifts():
    r, true, _ = caption_world(200, seed=1101); a, b = r.numeric("image"), true; codes = []
    for x, z in ((a, b), (a*np.linspace(1, 9, a.shape[1])+5, b*7-3)): x, z = compact(x)(x), compact(z)(z); codes.append(retrieved((h := fit_head(x, z)).encode_a(x), h.encode_b(z)))
    assert np.allclose(*codes)

def test_independent_sides_leave_nothing_to_find():
    rng = np.random.default_rng(0); a, b = rng.normal(size=(400, 10)), rng.normal(size=(400, 8)); assert (fit_head(a[:200], b[:200]).trust < .35).all()
    h = fit_head(a[:200], b[:200]); assert abs(retrieved(h.encode_a(a[200:]), h.encode_b(b[200:]), 5).mean()-5/200) < .03

def test_retrieval_is_symmetric_and_chance_is_right():
    rng = np.random.default_rng(0); u, v = rng.normal(size=(2, 300, 6)); assert np.allclose(retrieved(u, v, 7), retrieved(v, u, 7)); assert abs(retrieved(u, v, 30).mean()-.1) < .04
    assert retrieved(u, u, 1).min() == 1 and retrieved(u, -u, 1).max() == 0 and np.allclose(retrieved(u, 0*u, 3), 3/300)

def test_predictions_of_labels_and_numbers():
    rng = np.random.default_rng(0); x = rng.normal(size=(200, 4)); y = (x[:, 0] > 0).astype(int)
    assert predicted(x[:150], y[:150], x[150:], y[150:]).mean() > .85 and predicted(x[:9], np.zeros(9, int), x[9:19], y[9:19]).mean() == (y[9:19] == 0).mean()
    assert predicted(x[:150], 3*x[:150, 1]+1, x[150:], 3*x[150:, 1]+1, 9.).mean() > .99

def test_stand_ins_do_not_copy_the_caption_they_replace():
    rng = np.random.default_rng(0); a = rng.normal(size=(100, 3)); b = a @ rng.normal(size=(3, 5)); spoilt = b.copy(); spoilt[7] = 1e3
    assert np.allclose(stand_in(a, b, np.ones(100), np.array([7])), stand_in(a, spoilt, np.ones(100), np.array([7])))

def test_erasure_uses_training_means_only():
    rng = np.random.default_rng(0); v = rng.integers(0, 3, 90); b = rng.normal(size=(90, 4))+v[:, None]; train = np.arange(90) < 60; other = b.copy(); other[60:] += 9
    assert np.allclose(erase(b, v, train)[:60], erase(other, v, train)[:60]) and np.allclose(erase(other, v, train)[60:]-erase(b, v, train)[60:], 9)

# ---- no way from held-out records to training

def test_suspicion_of_training_pairs_does_not_know_held_out_captions():
    r, _, _ = caption_world(120, .3, seed=1102); a, b = (compact(r.numeric(m))(r.numeric(m)) for m in ("image", "text")); train = np.arange(90); none = np.zeros(120, bool)
    other = b.copy(); other[90:] = np.random.default_rng(0).normal(size=(30, b.shape[1])); one, two = (suspicion_of(r, ("image", "text"), (a, z), None, none)[0](train) for z in (b, other))
    assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])

def test_copies_never_stand_on_both_sides():
    for seed in range(30):
        rng = np.random.default_rng(seed); x, z = rng.normal(size=(2, 60, 25)); x[40:50] = x[:10]+1e-3*rng.normal(size=(10, 25)); g = twins(x, z); f = fold_of(g, 5, seed)
        assert (f[40:50] == f[:10]).all() and set(f) == set(range(5)) and np.bincount(f).max()-np.bincount(f).min() <= 4

def test_a_data_set_of_copies_is_not_flattered():
    r, _, _ = caption_world(80, seed=1103); double = MultimodalRecords({m: np.vstack([x, x]) for m, x in r.modalities.items()})
    one, two = (compare_arms(x, arms="weight", **QUICK) for x in (r, double)); assert two.counts["groups"] == one.counts["groups"] == 80 and two.base.high-two.base.low > .8*(one.base.high-one.base.low)

def test_the_choice_for_a_fold_does_not_look_at_it():
    fold = np.repeat([0, 1, 2], 4); out = np.zeros((3, 12)); out[1, fold == 0] = 1; out[2] = .1; elsewhere = np.array([out[:, fold != f].mean(1) for f in range(3)])
    diff, picks = differences(out, elsewhere, fold, [("leave", ""), ("filter", .1), ("filter", .2)]); assert picks["filter"][0] == 2 and (picks["filter"][1:] == 1).all() and diff["filter"][fold == 0].mean() == pytest.approx(.1)

# ---- intervals

def test_intervals_hold_together():
    rng = np.random.default_rng(0); missed = 0
    for _ in range(200):
        d = rng.normal(size=(5, 120))*.3+.5*rng.normal(size=120)*.3; e, _ = simultaneous({str(i): v for i, v in enumerate(d)}, np.arange(120)); missed += any(not v.low <= 0 <= v.high for v in e.values())
    assert missed <= 10  # at most 5 % of 200

def test_one_arm_needs_no_correction_and_nan_is_left_out():
    v = np.random.default_rng(0).normal(size=200); w = v.copy(); w[::4] = np.nan; e, q = simultaneous({"a": w}, np.arange(200)); assert q < 2.05 and e["a"].n == 150
    assert simultaneous({"a": np.zeros(50)}, np.arange(50))[0]["a"].high > 0  # nothing changed is not a proof that nothing can

# ---- planted truth

def test_true_captions_win_when_nearly_half_are_wrong(noisy):
    records, true, wrong, _ = noisy; r = compare_arms(records, arms=("repair", "filter"), oracle=true, scored=~wrong, **QUICK)
    assert r.best.name == "repair" and r.arm("repair").gain.low > 0 and r.arm("repair").gain.value > r.arm("filter").gain.value and r.scored_on == "scored_as_given"

def test_a_given_suspicion_is_used_and_said(noisy):
    records, _, wrong, _ = noisy; r = compare_arms(records, wrong.astype(float), scored=~wrong, shares=(.4,), arms=("filter", "weight"), **QUICK)
    assert "weak_outside" in r.notes and r.rate is None and r.arm("weight").gain.value > 5 and abs(r.arm("filter").gain.value-r.arm("weight").gain.value) < 5
    assert r.arm("filter").pairs == 60 and r.arm("filter").left == pytest.approx(.6)

def test_a_shifting_factor_is_better_left_out_only_where_it_shifts():
    r = caption_world(400, bias=1., seed=1104)[0]; opt = dict(arms=(), omit="eighth", task="label", repeats=1); there = compare_arms(r, split="site", target=4, **opt); here = compare_arms(r, folds=5, **opt)
    assert there.arms[0].gain.value > 8 and here.arms[0].gain.value < 0 and there.arms[0].route == "exploit" and there.counts["repeats"] == 1 and there.base.n == 80
    before, after = there.arms[0].readable; assert after.value < before.value

def test_number_to_predict():
    r, _, _ = caption_world(150, seed=1105); kpi = r.numeric("image")[:, 0]*2; kpi[:10] = np.nan; x = compare_arms(r, task="kpi", kpi=kpi, arms="weight", **QUICK)
    assert .1 < x.base.value <= 1 and x.base.n == 140 and x.base.chance == 0 and "R²" in x.task_words() and x.scored_on == "scored_labels"

# ---- money

def test_prices_and_break_even(noisy):
    _, _, _, r = noisy; c = MisalignmentCosts(300, 2, check=1, relabel=4, pair=3, fixed=50, currency="円"); a = decide_misalignment(r, c)
    for o in a.options:
        arm = r.arm(o.name); assert o.cost == pytest.approx(price_of(arm, c)) and o.threshold == pytest.approx(o.cost/600) and o.net.value == pytest.approx(600*arm.gain.value-o.cost) and 0 <= o.p_loss <= 1
        assert (o.net.low > 0) == (arm.gain.low > o.threshold) and (o.p_loss < .5) == (o.net.value > 0)
    assert {e.name for e in a.experiments} <= {"caption", "confirm", "collect"} and all(e.units >= 1 for e in a.experiments)

def test_risk_makes_an_omission_pay():
    made = ArmsResult.from_json(compare_arms(caption_world(150, seed=1106)[0], arms=(), omit="eighth", task="label", **QUICK).to_json()); o = MisalignmentCosts(100., omit=10., risk=1e6)
    assert decide_misalignment(made, o).verdict == "exploit" and decide_misalignment(made, o).break_even_price > 9e5 and "at any price" not in decide_misalignment(made, o).summary() and decide_misalignment(made, MisalignmentCosts(100., omit=1e6)).verdict == "leave"

def test_no_value_of_a_point_means_leave(noisy):
    a = decide_misalignment(noisy[3], MisalignmentCosts(0., relabel=1, check=1, fixed=5)); assert a.verdict == "leave" and a.today == "leave" and "Leave the pairs" in a.summary()

def test_more_knowledge_is_worth_less_when_the_answer_is_clear():
    assert perfect_information(0, 100) > perfect_information(100, 100) > perfect_information(300, 100) >= 0 and perfect_information(-5, 0) == 0

def test_the_cheapest_experiment():
    g = Estimate(3., -1., 7., 0., 300, "better", "points"); rate = Estimate(.4, .3, .5, 1., 300, "worse"); c = MisalignmentCosts(1000, check=1, relabel=2, pair=10)
    diluted = Estimate(6., 2.5, 9.5, 0., 300, "better", "points"); much = replace(rate, value=.7); found = experiments(diluted, 3., much, "scored_as_given", c, 500.)
    assert [e.name for e in found] == ["confirm", "collect"] and found[0].cost == found[0].units <= 300 and found[0].cost < found[1].cost and found[0].worth == 500
    assert [e.name for e in experiments(diluted, 3., much, "scored_labels", c, 500.)] == ["collect"] and math.isnan(experiments(g, 0., rate, "scored_as_given", None, math.nan)[0].cost)
    assert [e.name for e in experiments(g, 0., rate, "scored_as_given", c, 500.)] == ["collect"]  # zero is not easier to exclude on right pairs
    assert experiments(replace(g, value=0.01), 0., None, "scored_as_given", c, 500.) == ()  # on the threshold no number of pairs helps

@pytest.mark.parametrize("given", (dict(value=-1), dict(value=math.nan), dict(value="10"), dict(value=1, relabel=-2), dict(value=1, hour=math.inf), dict(value=1, pair=True), dict(value=1, currency=3), dict(value=None)))
def test_bad_prices(given):
    with pytest.raises(InputError): MisalignmentCosts(**given)

def test_a_missing_price_is_asked_for(noisy):
    with pytest.raises(InputError, match="price of captioning one pair again"): decide_misalignment(noisy[3], MisalignmentCosts(10.))

# ---- bad input

def test_bad_arguments():
    r, true, _ = caption_world(90, seed=1107); b = r.modalities["text"]
    cases = (({"arms": ("filter", "fliter")}, "Did you mean `filter`"), ({"task": "labels"}, "Did you mean `label`"), ({"use": "sound"}, "not known"), ({"modalities": ("image",)}, "Two modalities"), ({"modalities": ("image", "image")}, "twice"),
             ({"kpi": np.ones(90)}, "task='kpi'"), ({"omit": "eigth"}, "Did you mean `eighth`"), ({"target": "4"}, "needs `split`"), ({"split": "site", "target": "9", "folds": 3}, "not known"), ({"split": "town"}, "not known"), ({"folds": 2}, "folds"), ({"repeats": 0}, "repeats"), ({"seed": -1}, "seed"),
             ({"trusted": np.ones(90)}, "true/false"), ({"scored": np.ones(5, bool)}, "true/false"), ({"diagnosis": np.ones(5)*.5}, "pair them by id"), ({"oracle": "no"}, "not known"), ({"shares": (1.,)}, "shares"), ({"at": 0}, "at"), ({"split": "site", "folds": 6}, "Use folds=5"))
    for given, message in cases:
        with pytest.raises(InputError, match=message.replace("(", r"\(")): compare_arms(r, **given)
    with pytest.raises(InputError, match="MultimodalRecords"): compare_arms(b)
    with pytest.raises(InputError, match="60 pairs"): compare_arms(r.select(r.ids[:50]))
    with pytest.raises(InputError, match="Near copies leave 2 different pairs|left to learn"): compare_arms(MultimodalRecords({"image": np.vstack([b[:1]]*40+[b[1:2]]*40), "text": np.vstack([b[2:3]]*40+[b[3:4]]*40)}), [.1]*80, arms="weight")

def test_all_pairs_identical():
    for x in (np.ones((80, 3)), np.tile(np.arange(3.), (80, 1))):
        with pytest.raises(InputError, match="is the same in all"): compare_arms(MultimodalRecords({"image": x, "text": x}), arms="weight")
    with pytest.raises(InputError, match="no word|same in all|cannot|tells"): compare_arms(MultimodalRecords({"image": np.random.default_rng(0).normal(size=(80, 4)), "text": ["a cup"]*80}))

def test_fewer_pairs_than_columns_and_missing_cells():
    rng = np.random.default_rng(0); z = rng.normal(size=(90, 6)); a, b = (z @ rng.normal(size=(6, d))+.3*rng.normal(size=(90, d)) for d in (400, 300)); a[:5] = np.nan; r = compare_arms(MultimodalRecords({"image": a, "text": b}), **QUICK)
    assert r.counts["pairs"] == 85 and r.base.value > 3*r.base.chance and "weak_few_scored" in r.notes

def test_text_with_missing_captions_and_markup(tmp_path):
    rng = np.random.default_rng(0); y = rng.integers(0, 4, 120); texts = [f"<b>{('red', 'blue', 'green', 'white')[k]}</b> cup {i % 7}" for i, k in enumerate(y)]; texts[3] = None
    r = MultimodalRecords({"<img>": np.eye(4)[y]+.2*rng.normal(size=(120, 4)), "text": texts}); x = compare_arms(r, omit="colour", factors={"colour": {"<red>": "red", "blue": ("blue",)}}, **QUICK)
    assert x.counts["pairs"] == 119 and x.arm("omit:colour").gain.value < 0; page = decide_misalignment(x, MisalignmentCosts(1., relabel=1., currency="<i>")).save_html(tmp_path/"p.html").read_text()
    assert "<img>" not in page and "<i>" not in page

# ---- faces

def test_both_languages_and_json(noisy):
    a = decide_misalignment(noisy[3], MisalignmentCosts(10., relabel=1.)); again = MisalignmentAdvice.from_json(a.to_json())
    for l in ("en", "ja"):
        assert again.summary(l) == a.summary(l) and "{" not in a.summary(l) and all("{" not in v.text(part, l) for v in a.verdicts() for part in ("what", "rule", "next_step")) and a.name_of("gain", l) and noisy[3].name_of("leave", l)
    assert set(a.to_frame()["quantity"]) == {"gain", "net", "wrong_rate"} and len(noisy[3].to_frame()) == 6 and a.plot(language="ja") is not None
    assert {arm_words(n) for n in ARMS if n != "omit"} and route("omit:x") == "exploit" and route("rince") == "mitigate" and say("arm_chosen", "ja")

def test_verdicts_agree_with_intervals(noisy):
    for v in noisy[3].verdicts(ArmsPolicy(min_gain=2.)): e = v.estimate; assert (v.value in ("pass", "warn")) == (e.low > 2) and (v.value == "fail") == (e.high < 2)

def test_same_seed_same_answer_and_progress():
    r, _, _ = caption_world(80, .2, seed=1108); told = []; one = compare_arms(r, seed=3, progress=lambda *t: told.append(t), **QUICK); again = compare_arms(r, seed=3, **QUICK); assert [a.gain for a in one.arms] == [a.gain for a in again.arms]
    assert told[-1][:2] == (3, 3) and one.provenance.seed == 3 and one.provenance.fingerprint == r.fingerprint

def test_import_is_light():
    code = "import sys, mmkit.misalignment.decide; print([m for m in ('torch', 'matplotlib', 'sklearn', 'pandas', 'ibis') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
