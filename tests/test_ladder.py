"Encoders from weak to strong: known answers, invariances, honest intervals, hostile input."
import json, math, warnings
import numpy as np, pytest
from mmkit.alignment.calibrate import measure_alignment
from mmkit.alignment.ladder import (SCORES, LadderResult, _assemble, _signs, alignment_ladder, emoji_encoders, explained_strength, held_out_right, outside_strength,
                                    sure_differences, top_of, Strength)
from mmkit.alignment.similarity import similarity
from mmkit.checks import InputError, WeakInputWarning
from mmkit.results import Estimate, provenance

def world(n=200, rungs=5, seed=0):
    "Rung r sees the first r+1 of the hidden causes, the other modality sees all, the label is the sign of their sum."
    rng = np.random.default_rng(seed); h = rng.normal(size=(n, rungs))
    see = {f"r{r}": np.hstack([h[:, :r+1], rng.normal(size=(n, rungs-r-1))]) if r < rungs-1 else h.copy() for r in range(rungs)}
    return see, h+.4*rng.normal(size=h.shape), (h.sum(1) > 0).astype(int), h.sum(1)+rng.normal(size=n)

@pytest.fixture(scope="module")
def climbed():
    x, z, y, _ = world(); return x, z, y, alignment_ladder(x, z, y, n_null=99, names=("photo", "text"))

# ---- the numbers are those of the rooms below

@pytest.mark.parametrize("metric", ("mutual_knn", "edit_distance_knn", "cka", "unbiased_cka", "rsa"))
def test_one_rung_is_measure_alignment(metric):
    x, z, y, _ = world(120); r = alignment_ladder(x, z, y, metric=metric, n_null=50)
    for i, name in enumerate(x):
        alone = measure_alignment(x[name], z, metric, n_null=50); e = r.observed[i][0]
        assert math.isclose(e.value, similarity(x[name], z, metric), abs_tol=1e-6) and math.isclose(e.chance, alone.observed.chance, abs_tol=1e-6) and e.p_value == alone.p_value
        assert math.isclose(r.calibrated[i][0].value, alone.calibrated.value, abs_tol=1e-6)
        if 0 < e.low and e.high < 1: assert math.isclose(e.high-e.low, alone.observed.high-alone.observed.low, rel_tol=.03)  # one uses Student's t

def test_strength_is_held_out_accuracy(climbed):
    x, _, y, r = climbed
    assert [e.value for e in r.performance] == [held_out_right(v, y).mean() for v in x.values()] and all(math.isclose(e.chance, np.bincount(y).max()/len(y)) for e in r.performance)

def test_a_climbing_world_climbs(climbed):
    r = climbed[3]; assert r.correlations["rank_correlation"].value > .85 and r.pattern() == "grows" and r.disagree == 0 and r.verdicts()[1].value == "pass" and r.rungs[r.top] == "r4"

# ---- invariances

def test_the_order_of_rungs_does_not_matter(climbed):
    x, z, y, r = climbed; back = alignment_ladder(dict(reversed(x.items())), z, y, n_null=99)
    assert {k: round(e.value, 9) for k, e in back.correlations.items()} == {k: round(e.value, 9) for k, e in r.correlations.items()} and back.rungs[back.plateau] == r.rungs[r.plateau] and back.agree == pytest.approx(r.agree, abs=1)
    assert back.correlations["rank_correlation"].low == pytest.approx(r.correlations["rank_correlation"].low, abs=.11)  # draws differ

def test_rotating_and_scaling_changes_nothing(climbed):
    x, z, y, r = climbed; q = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    again = alignment_ladder(x, 3*z@q, y, n_null=99); assert np.allclose([e.value for e in again.mean], [e.value for e in r.mean])

def test_same_seed_same_result(climbed):
    x, z, y, r = climbed; again = alignment_ladder(x, z, y, n_null=99, names=("photo", "text")); assert again.estimates() == r.estimates()

def test_the_inputs_stay_as_they_were(climbed):
    x, z, y, _ = climbed; fresh = world(); assert all((x[k] == fresh[0][k]).all() for k in x) and (z == fresh[1]).all()

# ---- the intervals hold what they promise

def test_r2_interval_covers():
    hits = []
    for seed in range(40):
        _, _, _, kpi = world(200, seed=seed); h = world(200, seed=seed)[0]["r4"]; s = explained_strength([h], kpi, 5, 0); hits.append(abs(s.values[0]-5/6) < 1.96*s.deviations.std(0)[0])
    assert np.mean(hits) >= .82  # a little low bias: the rule is trained on four fifths

def test_rank_correlation_interval_covers_what_fresh_records_show():
    "A ladder whose rungs are close: 30 data sets; the average of the measured correlations is the target."
    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed); h = rng.normal(size=(150, 4)); views = {f"r{r}": h+(1.2-.06*r)*rng.normal(size=h.shape) for r in range(5)}
        found.append(alignment_ladder(views, h+.5*rng.normal(size=h.shape), kpi=h.sum(1)+rng.normal(size=150), n_null=19, seed=seed).correlations["rank_correlation"])
    target = np.mean([e.value for e in found]); assert .1 < target < .95
    assert np.mean([e.low <= target <= e.high for e in found]) >= .9 and np.median([e.high-e.low for e in found]) < 1.7

def test_equal_encoders_are_not_ordered():
    "Two hundred ladders without any difference: a difference is claimed in about one of twenty."
    rng = np.random.default_rng(0); common = rng.standard_normal((200, 1, 1))
    claimed = [(_signs(v, v+.5*rng.standard_normal((400, 1))+rng.standard_normal((400, 6))) != 0).any() for v in rng.standard_normal((200, 6))]
    assert np.mean(claimed) < .11

def test_copies_of_one_encoder_stay_undecided():
    x, z, y, _ = world(120); x["copy"] = x["r4"].copy(); r = alignment_ladder(x, z, y, n_null=19)
    d, half = sure_differences(np.array([1., 1.]), np.ones((50, 2))); assert (d == 0).all() and (half == 0).all()
    assert r.observed[4][0].value == r.observed[5][0].value and r.pattern() != "grows" and math.isfinite(r.correlations["rank_correlation"].value)

# ---- what is said agrees with the numbers

def random_ladder(seed):
    rng = np.random.default_rng(seed); n, rungs, targets = 60, int(rng.integers(3, 8)), int(rng.integers(1, 3)); slope = rng.normal()
    p = rng.uniform(.3, .9, rungs); seen = np.clip(.3+slope*(p[:, None]-.6)+.1*rng.normal(size=(rungs, targets)), .01, .95); null = rng.uniform(0, .1, (40, rungs, targets))
    spread = 10**rng.uniform(-3, -1); s = Strength("accuracy", p, spread*rng.normal(size=(n, rungs)), np.zeros(rungs), .25)
    about = dict(provenance=provenance(0.), name_a="<photo>", name_b="テキスト", metric="mutual_knn", k=10, rungs=tuple(f"<r{i}>" for i in range(rungs)), targets=tuple(f"t{i}" for i in range(targets)))
    return _assemble(s, seen, null, spread*rng.normal(size=(n, rungs, targets)), about, .05, seed)

@pytest.mark.parametrize("seed", range(60))
def test_words_and_numbers_agree(seed):
    r = random_ladder(seed); pattern, e = r.pattern(), r.correlations["rank_correlation"]
    assert (pattern == "grows") == (r.top_gain.low > 0) and (pattern in ("dips", "differs")) == (r.top_gain.high < 0) and (pattern == "saturates") <= (r.plateau_rise.low > 0)
    assert e.low <= e.value <= e.high and -1 <= e.low and e.high <= 1 and r.agree+r.disagree+r.undecided == len(r.rungs)*(len(r.rungs)-1)//2 and r.undecided >= 0
    first, second = r.verdicts(); assert first.value == ("pass" if e.low > .5 else "fail" if e.high < .5 else "not_enough_evidence") and (second.value == "pass") == (pattern == "grows")
    if pattern == "grows": assert r.plateau == r.top and r.plateau_rise.value == 0
    for language in ("en", "ja"): assert f"{e.value:.2f}" in r.summary(language) and f"[{e.low:.2f}, {e.high:.2f}]" in r.summary(language) and "{" not in r.summary(language)
    page = r._repr_html_(); assert "<r0>" not in page and "&lt;r0&gt;" in page
    assert LadderResult.from_json(r.to_json()) == r and len(r.points()) == len(r.rungs)*len(r.targets) and json.loads(r.to_json())

def test_the_top_without_noise():
    sharp = lambda v: np.repeat(v[None], 50, 0); p = np.array([.5, .6, .7, .8])
    for a, first, gain in (([.1, .2, .3, .4], 3, .1), ([.1, .4, .3, .2], 1, -.2), ([.3, .3, .3, .3], 0, 0.), ([.4, .3, .2, .1], 0, -.3)):
        g, plateau, rise, lead = top_of(p, sharp(p), np.array(a), sharp(np.array(a))); assert plateau == first and g == pytest.approx((gain,)*3) and rise[0] == pytest.approx(.8-p[first])

# ---- a KPI from outside

def test_a_kpi_of_its_own():
    names = ("a", "b", "c"); s = outside_strength(names, {"a": 1, "b": Estimate(2., 1., 3., 0., 9), "c": 5.}, 20)
    assert s.values.tolist() == [1, 2, 5] and s.outside.tolist() == [0, pytest.approx(2/3.92), 0] and (s.deviations == 0).all()
    for kpi, words in (({"a": 1, "b": 2}, "lacks c"), ({"a": 1, "b": 2, "c": 3, "d": 4}, "has d"), ({"a": 1, "b": 1, "c": 1}, "same for all"), ({"a": "x", "b": 2, "c": 3}, "number"), ({"a": math.nan, "b": 2, "c": 3}, "number"), ({"a": Estimate(math.nan, 0, 1, 0, 9), "b": 2, "c": 3}, "without value")):
        with pytest.raises(InputError, match=words): outside_strength(names, kpi, 20)

def test_uncertainty_from_outside_widens():
    x, z, *_ = world(120); e = lambda half: {k: Estimate(.1*i, .1*i-half, .1*i+half, 0., 9) for i, k in enumerate(x)}; wide = lambda kpi: (lambda c: c.high-c.low)(alignment_ladder(x, z, kpi=kpi, n_null=19).correlations["rank_correlation"])
    assert wide(e(.2)) > wide(e(1e-9))

# ---- what is refused, in one sentence each

X, Z, Y, _ = world(60)
BAD = {"two rungs": (dict(rungs={k: X[k] for k in ("r0", "r1")}), "at least 3"), "unequal rows": (dict(rungs=X | {"r9": X["r0"][:9]}), "60 records|9 records"), "NaN": (dict(rungs=X | {"r0": np.full_like(Z, np.nan)}), "NaN"),
       "zero rows": (dict(rungs=X | {"r0": np.zeros_like(Z)}), "zeros"), "k too large": (dict(k=60), "k"), "k zero": (dict(k=0), "k"), "no column": (dict(target=Z[:, :0]), "no columns"), "text": (dict(target=np.array([["a"]]*60)), "not numbers"),
       "half precision": (dict(target=np.where(Z > 0, np.float16(np.inf), np.float16(1))), "overflow"), "few relabellings": (dict(n_null=5), "n_null"), "folds": (dict(folds=1), "folds"), "seed": (dict(seed=-1), "seed"), "labels too short": (dict(labels=Y[:9]), "has 9 entries"),
       "labels are text": (dict(labels="abc"), "no entries"), "a single class": (dict(labels=Y*0), "same label"), "a class of one": (dict(labels=np.r_[7, Y[1:]]), "single record"), "missing label": (dict(labels=[None, *Y[1:]]), "missing"),
       "constant KPI": (dict(labels=None, kpi=np.ones(60)), "same for all records"), "no answer": (dict(labels=None), "Neither"), "svcca": (dict(metric="svcca"), "is not known"), "unknown": (dict(metric="mutual_kn"), "Did you mean"), "alpha": (dict(alpha=2), "alpha")}

@pytest.mark.parametrize("change, words", BAD.values(), ids=BAD)
def test_refused(change, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match=words) as error: alignment_ladder(**{**dict(rungs=X, target=Z, labels=Y, n_null=19), **change})
    assert "\n" not in str(error.value)

def test_few_rungs_are_called_few():
    with pytest.warns(WeakInputWarning, match="only 3 encoders"): alignment_ladder({k: X[k] for k in ("r0", "r2", "r4")}, Z, Y, n_null=19)

# ---- the bundled ladder

def test_the_bundled_ladder_keeps_its_records_in_order():
    for language in ("en", "ja"):
        e = emoji_encoders(language, families=False); assert len(e.labels) == 982 and {len(v) for v in (*e.images.values(), *e.texts.values())} == {982} and (e.records.features["text"] == e.texts["usem3"]).all() and (e.records.label == e.labels).all()
    with pytest.raises(InputError, match="language"): emoji_encoders("fr")

def test_known_numbers_of_the_bundled_ladder():
    e = emoji_encoders(); r = alignment_ladder(e.images, e.texts["usem3"], e.labels, n_null=19, names=("image", "text")); rho = r.correlations["rank_correlation"]
    assert rho.value == pytest.approx(.857, abs=.03) and rho.low > .7 and r.disagree == 0 and r.pattern() == "differs" and r.rungs[r.peak] == "lite0_block9"
    assert [round(x[0].value, 2) for x in r.observed] == pytest.approx([.12, .13, .14, .14, .17, .19, .17, .17], abs=.011)
