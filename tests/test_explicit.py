"Explicit alignment: known answers, planted worlds, money, hostile input."
import itertools, math, time
import numpy as np
import pytest
import mmkit.alignment.explicit as ex
from mmkit.alignment.explicit import (DECISIONS, METHODS, AlignmentAdvice, AlignmentCosts, AlignmentPilot, ExplicitPolicy, Task, agreement, canonical_directions, decide, fit_aligners, fit_cca,
                                      fit_contrastive, fit_procrustes, held_out_outcomes, paired_gain, plan_pilot, recommend_alignment, shared_world, sign, standardise, try_alignment)
from mmkit.checks import InputError
from mmkit.data.records import MultimodalRecords
from mmkit.data.synthetic import gate, sample
from mmkit.interactions.estimate import quantify_interactions
from mmkit.interactions.tables import one_thread
from mmkit.language import LANGUAGES
from mmkit.results import Estimate, provenance

def centred(x): return x-x.mean(0)
def pairs(n=600, seed=0, rho=(.9, .6, .3)):
    "Three canonical pairs with known correlations, mixed into six and five columns."
    rng = np.random.default_rng(seed); r = np.array(rho); u = rng.normal(size=(n, 3)); v = r*u+np.sqrt(1-r**2)*rng.normal(size=(n, 3))
    return np.c_[u, rng.normal(size=(n, 3))] @ rng.normal(size=(6, 6)), np.c_[v, rng.normal(size=(n, 2))] @ rng.normal(size=(5, 5))

# ---- canonical correlation

def test_planted_correlations_are_found():
    x, z = pairs(20_000); rho = canonical_directions(centred(x), centred(z))[2]
    assert rho[:3] == pytest.approx([.9, .6, .3], abs=.02) and (rho[3:] < .04).all()

def test_against_scikit_learn():
    from sklearn.cross_decomposition import CCA
    x, z = pairs(400); u, v = CCA(3, max_iter=5000, tol=1e-10).fit(x, z).transform(x, z)
    assert canonical_directions(centred(x), centred(z))[2][:3] == pytest.approx([np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3)], abs=1e-5)

def test_directions_are_uncorrelated_of_unit_variance_and_can_be_written_back():
    x, z = map(centred, pairs(500)); read, write, rho, read_z = canonical_directions(x, z); u, v = x @ read, z @ read_z
    assert u.T @ u/500 == pytest.approx(np.eye(5), abs=1e-9) and u.T @ v/500 == pytest.approx(np.diag(rho), abs=1e-9)
    assert write @ read == pytest.approx(np.eye(5), abs=1e-8)

@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_do_not_matter(scale):
    x, z = map(centred, pairs(500)); assert canonical_directions(x*scale, z)[2] == pytest.approx(canonical_directions(x, z)[2], abs=1e-8)

def test_held_out_choice_keeps_what_is_there_and_little_else():
    x, z = map(centred, pairs(2000)); _, r, _ = fit_cca(x, z); assert r[:3] == pytest.approx([.9, .6, .3], abs=.08) and (r > 0).sum() <= 4
    _, r, _ = fit_cca(x, z[np.random.default_rng(0).permutation(2000)]); assert r.max() < .1 and (r > 0).sum() >= 1

def test_more_columns_than_records_and_copies_of_columns():
    rng = np.random.default_rng(0); x = rng.normal(size=(30, 60)); z = np.c_[x[:, :3], x[:, :3]]
    for a in fit_aligners("cca", centred(x), centred(z), (.5, 1.)): assert np.isfinite(a.own).all() and np.isfinite(a.other).all()

# ---- Procrustes and the head

@pytest.mark.parametrize("d_z", [4, 7])
def test_procrustes_recovers_a_rotation(d_z):
    rng = np.random.default_rng(1); x = rng.normal(size=(200, 4)); turn = np.linalg.qr(rng.normal(size=(d_z, d_z)))[0][:, :4]
    rotation, scale = fit_procrustes(x, 2.5*x @ turn.T); assert rotation == pytest.approx(turn, abs=1e-9) and scale == pytest.approx(.4)

def test_the_head_is_deterministic_leaves_torch_alone_and_aligns():
    import torch
    x, z = map(centred, pairs(300)); y = (x[:, 0] > 0).astype(int); torch.manual_seed(3); before = torch.random.get_rng_state()
    a, b = fit_contrastive(x, z, .5, x, y, seed=1), fit_contrastive(x, z, .5, x, y, seed=1)
    assert (a[0] == b[0]).all() and (a[1] == b[1]).all() and not (a[0] == fit_contrastive(x, z, .5, x, y, seed=2)[0]).all()
    assert (torch.random.get_rng_state() == before).all() and ((x @ a[0])**2).sum() == pytest.approx((x**2).sum())

@pytest.mark.parametrize("method", METHODS)
def test_strength_zero_is_today(method):
    x, z, y = shared_world(300); x, z = standardise(x)(x), standardise(z)(z); a, = fit_aligners(method, x, z, (0,), x, y)
    features, labels, weights = a.training(x, y, z, y); assert (features == x).all() and (labels == y).all() and weights is None
    task = Task(x, z, y); held = np.arange(300) < 60
    with one_thread(): out = held_out_outcomes(task, held, .1, (method,), (0.,), 0)
    assert (out[0] == out[1]).all()

def test_standardise_survives_constants_and_many_columns():
    rng = np.random.default_rng(0); x = np.c_[rng.normal(size=(200, 150)), np.full(200, 1e9)]; s = standardise(x)(x)
    assert s.shape == (200, ex.MOST_COLUMNS) and np.isfinite(s).all()

# ---- trials on planted worlds

def world(private, labelled=200, n=1400, seed=0):
    x, z, y = shared_world(n, private, seed)
    return MultimodalRecords({"x": x, "z": z}, label=[int(v) if i < labelled else None for i, v in enumerate(y)])

QUICK = dict(use="x", methods=("cca",), n_null=1)
@pytest.fixture(scope="module")
def helped(): return try_alignment(world(0), strengths=(1.,), **QUICK)
@pytest.fixture(scope="module")
def hurt(): return try_alignment(world(1), strengths=(1.,), **QUICK)

def test_the_planted_worlds_are_judged_right(helped, hurt):
    assert helped.quantities["gain"].value > 4 and hurt.quantities["gain"].high < -10 and [v.value for v in hurt.verdicts()][0] == "fail"
    assert recommend_alignment(hurt).decision == "use_as_is" and recommend_alignment(helped).decision in ("invest", "measure")
    assert recommend_alignment(helped, AlignmentCosts(value=1000, project=100, pilot=1e6)).decision == "invest"
    assert recommend_alignment(hurt, AlignmentCosts(value=1000, project=100, pilot=1e6)).decision == "use_as_is"

def test_shuffled_pairs_give_no_gain_beyond_noise():
    "The trial itself, on pairs that do not belong together: the smaller number must not clear zero."
    found = []
    for s in range(2):
        x, z, y = shared_world(400, 0, s); records = MultimodalRecords({"x": x, "z": z[np.random.default_rng(s).permutation(400)]}, label=[int(v) if i < 150 else None for i, v in enumerate(y)])
        found.append(try_alignment(records, strengths=(.5, 1.), folds=3, **QUICK).credited)
    assert sum(g.low > 0 for g in found) == 0 and np.mean([g.value for g in found]) < 3

def test_same_seed_same_answer_and_progress(helped):
    ticks = []; again = try_alignment(world(0), strengths=(1.,), progress=lambda *a: ticks.append(a), **QUICK)
    assert again.quantities == helped.quantities and ticks[-1] == (30, 30, "trainings") and helped.counts == dict(tested=200, pairs=1400, labelled_other=200, folds=5, shuffles=1)

def test_a_number_replaces_the_label():
    x, z, y = shared_world(700); rng = np.random.default_rng(0); score = x @ rng.normal(size=80)/9+.1*rng.normal(size=700); score[300:] = np.nan
    r = try_alignment(MultimodalRecords({"x": x, "z": z}), kpi=score, strengths=(.5,), folds=3, **QUICK)
    assert r.measure == "r2" and r.quantities["unaligned"].value > .5 and r.quantities["unaligned"].chance == 0 and r.counts["tested"] == 300
    assert "R²" in r.summary() and "決定係数" in r.summary("ja")
    head = try_alignment(MultimodalRecords({"x": x, "z": z}), kpi=score*1e6, use="x", methods="contrastive", strengths=.5, n_null=1, folds=3); assert np.isfinite(head.quantities["gain"].value)

def test_labels_of_the_other_modality_are_borrowed():
    "60 labelled pictures and 700 labelled texts without pictures; 240 pairs without label connect them."
    rng = np.random.default_rng(0); c = rng.normal(size=(1400, 30)); turn = np.linalg.qr(rng.normal(size=(30, 30)))[0]; y = (c[:, :5].sum(1) > 0).astype(int)
    x, z = c+.3*rng.normal(size=c.shape), c @ turn+.3*rng.normal(size=c.shape); x[:700] = np.nan; held = np.arange(1400) >= 1000; known = y.copy(); known[760:1000] = -1
    with one_thread(): today, borrowed = held_out_outcomes(Task(x, z, known), held, .1, ("procrustes",), (1.,), 0).mean(1)
    assert borrowed > today+.06

def test_the_weaker_modality_is_tried_by_default():
    x, z, y = shared_world(300); records = MultimodalRecords({"a": np.c_[x, 5*y+np.random.default_rng(0).normal(size=300)], "b": z}, label=y)
    assert try_alignment(records, methods="procrustes", strengths=.5, n_null=1, folds=3).use == "b"

# ---- interval and money

def test_a_gain_of_nothing_is_not_certain():
    e = paired_gain(np.ones(200), np.ones(200)); assert e.value == 0 and e.low < -.5 < .5 < e.high

def test_known_interval():
    d = np.r_[np.ones(30), -np.ones(10), np.zeros(60)]; e = paired_gain(d, np.zeros(100))
    assert e.value == pytest.approx(20) and e.high-20 == pytest.approx(1.96*ex.OVERLAP*d.std(ddof=1)*10)

def pilot_of(gain, beyond=None, n=400):
    made = lambda g: Estimate(g[1], g[0], g[2], 0., n, "better", "points"); share = Estimate(.6, .5, .7, .3, n)
    return AlignmentPilot(provenance(time.perf_counter()), "x", "z", "y", "accuracy", dict(unaligned=share, aligned=share, gain=made(gain), beyond=made(beyond or gain)), (), {}, 1.)

def test_break_even_by_hand():
    c = AlignmentCosts(value=200, project=6000, periods=10, currency="EUR"); a = recommend_alignment(pilot_of((2, 4, 6)), c)
    assert c.break_even == 3 and a.net.value == pytest.approx(2000) and a.decision == "measure" and a.pilot.cost == 0  # knowledge that is free is taken
    dear = AlignmentCosts(value=200, project=6000, periods=10, pilot=5000); a = recommend_alignment(pilot_of((2, 4, 6)), dear)
    assert a.decision == "invest" and a.threshold == 3 and a.evidence == "measured_open" and 0 < a.p_loss < .5
    assert a.p_loss == pytest.approx(.5*math.erfc(1/(4/1.96/2)/math.sqrt(2)), abs=2e-3)

def test_value_of_a_pilot_against_simulation():
    rng = np.random.default_rng(0); g, c = Estimate(1., -2.92, 4.92, 0., 300, "better", "points"), AlignmentCosts(value=100, project=200, record=.01); p = plan_pilot(g, c, True); s = 2.
    truth = rng.normal(1, s, 400_000); seen = truth+rng.normal(0, s*math.sqrt(300/p.units), truth.size); later = 1+(seen-1)*s**2/(s**2+s**2*300/p.units)
    assert p.worth == pytest.approx(np.maximum(100*later-200, 0).mean()-max(0, -100), rel=.03) and (p.low, p.high) == (.5*p.worth, 1.5*p.worth)

@pytest.mark.parametrize("costs", [AlignmentCosts(0, 0), AlignmentCosts(0, 100), AlignmentCosts(10, 100, periods=0)])
def test_money_that_buys_nothing(costs):
    a = recommend_alignment(pilot_of((5, 6, 7)), costs); assert a.decision == "use_as_is" and a.net.value <= 0 and a.pilot.worth == 0
    for language in LANGUAGES: assert a.summary(language) and a._repr_html_(language)
    a.verdicts(); a.plot()

def test_a_free_project_breaks_even_at_once():
    a = recommend_alignment(pilot_of((5, 6, 7)), AlignmentCosts(10, 0, pilot=1)); assert a.threshold == 0 and a.decision == "invest"

def test_what_shuffled_pairs_gain_is_not_credited():
    a = recommend_alignment(pilot_of((4, 6, 8), (-3, -1, 1))); assert a.gain.value == -1 and a.decision == "use_as_is"

def test_without_prices_only_a_clear_interval_speaks_for_investing():
    assert [recommend_alignment(pilot_of(g)).decision for g in ((1, 2, 3), (-1, 2, 5), (-5, -2, 1), (-3, -2, -1))] == ["invest", "measure", "use_as_is", "use_as_is"]
    assert recommend_alignment(pilot_of((1, 2, 3)), policy=ExplicitPolicy(2.5)).decision == "use_as_is"

def test_decisions_agree_with_their_numbers():
    rng, seen = np.random.default_rng(1), set()
    for _ in range(200):
        v, h = rng.normal(0, 3), rng.exponential(2)+.1; p = pilot_of((v-h, v, v+h), n=int(rng.integers(50, 2000)))
        a = recommend_alignment(p, AlignmentCosts(*rng.exponential([500, 3000, 3, 800, .5]).tolist(), currency="EUR")); seen.add(a.decision)
        assert (a.decision == "measure") == a.pilot.pays and (a.decision != "invest" or a.net.value > 0) and (a.decision != "use_as_is" or a.net.value <= 0)
        assert (a.evidence == "measured") == (a.verdicts()[0].value in ("pass", "warn", "fail"))
    assert seen == set(DECISIONS)

# ---- signs

@pytest.fixture(scope="module")
def interactions():
    a, b, y = sample(gate("copy_a"), 600, 0); return quantify_interactions(MultimodalRecords({"a": a.astype(float), "b": b.astype(float)}, label=y), n_boot=50, n_null=50)

def test_signs_of_private_knowledge(interactions):
    a = recommend_alignment(interactions, use="a"); assert {s.name: s.lean for s in a.signs} == {"private": "costs", "shared": "costs"} and a.evidence == "costs" and a.decision == "use_as_is"
    assert not a.measured and a.verdicts()[0].value in ("warn", "fail", "not_enough_evidence") and "missing_pilot" in a.missing and recommend_alignment(interactions).use == "b"

def test_signs_together():
    e = lambda low, high: Estimate((low+high)/2, low, high, 0., 100); yes, no, open_ = sign("shared", e(.9, .95)), sign("private", e(1., 2.)), sign("aligned", e(0, .9))
    assert [s.lean for s in (yes, no, open_)] == ["helps", "costs", "unclear"]
    assert [agreement(s) for s in ((yes, no), (yes, open_), (no,), (open_,), ())] == ["disagree", "helps", "costs", "unclear", "nothing"]
    assert decide(ex.expected_gain((yes, no)), "disagree", 0., None, None) == "measure" and decide(ex.expected_gain((yes,)), "helps", 0., None, None) == "measure"

def test_a_trial_outvotes_the_signs(interactions):
    p = pilot_of((3, 4, 5)); from_a = AlignmentPilot(p.provenance, "a", "b", interactions.label, "accuracy", p.quantities, (), {}, 1.)
    a = recommend_alignment((interactions, from_a), AlignmentCosts(100, 200, pilot=1e6)); assert a.decision == "invest" and a.contradicted and all(a.summary(k) for k in LANGUAGES)

# ---- the face

def test_results_travel_and_show_themselves(helped, interactions, tmp_path):
    for r in (helped, recommend_alignment(helped), recommend_alignment(interactions), recommend_alignment(helped, AlignmentCosts(100, 10, currency="円"))):
        assert type(r).from_json(r.to_json()).to_json() == r.to_json() and len(r.to_frame()) and all(r.name_of(k, j) for k in r.estimates() for j in LANGUAGES)
        for language in LANGUAGES: assert r.save_html(tmp_path/"a.html", language).stat().st_size < 400_000 and r.summary(language)
        for v in r.verdicts(): assert all(v.text(part, j) for part in ("what", "rule", "next_step") for j in LANGUAGES)

# ---- hostile input

GOOD = dict(modalities={"a": np.random.default_rng(0).normal(size=(80, 3)), "b": np.random.default_rng(1).normal(size=(80, 3))}, label=np.arange(80) % 2)
def records(**changes): return MultimodalRecords(**{**GOOD, **changes})

@pytest.mark.parametrize("call, says", [
    (lambda: try_alignment([1, 2]), "MultimodalRecords were expected"),
    (lambda: try_alignment(records(), ("a", "c")), "not known"),
    (lambda: try_alignment(records(), ("a", "a")), "twice"),
    (lambda: try_alignment(records(), "ab"), "Two modalities"),
    (lambda: try_alignment(records(), label="colour"), "carry the label"),
    (lambda: try_alignment(records(), use="c"), "`use`"),
    (lambda: try_alignment(records(), methods="ccaa"), "Did you mean `cca`"),
    (lambda: try_alignment(records(), methods=()), "at least one"),
    (lambda: try_alignment(records(), strengths=(.5, 1.5)), "strengths"),
    (lambda: try_alignment(records(), strengths=(math.nan,)), "strengths"),
    (lambda: try_alignment(records(), folds=2), "folds"),
    (lambda: try_alignment(records(), n_null=0), "n_null"),
    (lambda: try_alignment(records(), seed=-1), "seed"),
    (lambda: try_alignment(records(label=None)), "no `label`"),
    (lambda: try_alignment(records(label=[0, 1]*15+[None]*50)), "Only 30 records"),
    (lambda: try_alignment(records(label=[0]*78+[1]*2)), "Fewer than two classes"),
    (lambda: try_alignment(records(), kpi=np.ones(79)), "shape"),
    (lambda: try_alignment(records(), kpi=np.ones(80)), "is the same"),
    (lambda: try_alignment(records(), kpi=["x"]*80), "not numbers"),
    (lambda: try_alignment(records(), kpi=np.r_[np.inf, np.ones(79)]), "infinite"),
    (lambda: try_alignment(records(modalities={"a": GOOD["modalities"]["a"], "b": ["text"]*80})), "Encode it first"),
    (lambda: fit_aligners("cca", np.ones((3, 2)), np.ones((3, 2))), "at least 4"),
    (lambda: fit_aligners("cca", np.ones((5, 2)), np.ones((6, 2))), "5 records"),
    (lambda: fit_aligners("contrastive", np.ones((5, 2)), np.ones((5, 2))), "x_task"),
    (lambda: recommend_alignment(3), "holds a int"),
    (lambda: recommend_alignment(()), "is empty"),
    (lambda: recommend_alignment((pilot_of((1, 2, 3)),)*2), "two AlignmentPilots"),
    (lambda: recommend_alignment(pilot_of((1, 2, 3)), use="z"), "was made for"),
    (lambda: recommend_alignment(pilot_of((1, 2, 3)), costs={"value": 1}), "AlignmentCosts were expected"),
    (lambda: AlignmentCosts(value=math.nan, project=1), "`value`"),
    (lambda: AlignmentCosts(1, 1, currency=3), "currency"),
])
def test_refusals_say_what_came(call, says):
    with pytest.raises(InputError, match=says): call()

def test_few_pairs_are_refused_in_words():
    b = GOOD["modalities"]["b"].copy(); b[10:] = np.nan
    with pytest.raises(InputError, match="Only 10 records have both"): try_alignment(records(modalities={"a": GOOD["modalities"]["a"], "b": b}), use="a")
