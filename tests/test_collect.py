"The collection plan and the subgroup audit: known answers, invariances, limits, hostile input, and words in both languages."
import html, math, re, warnings
import numpy as np, pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.data.records import MultimodalRecords
from mmkit.data.synthetic import gate, latent_records, records_from_codes, sample
from mmkit.interactions import collect
from mmkit.interactions.collect import audit_subgroups, hide, plan_collection, pools, value_of_information

PRICES = {"label_a": 1., "label_b": 1., "label_pair": 2., "collect_a": 3., "collect_b": 3.}

@pytest.fixture(scope="module", autouse=True)
def curves_once():
    "Learning curves do not depend on money: the same records and seed are cross-validated once."
    real, kept = collect.learning_scores, {}
    def once(x, y, k, repeats=4, seed=0, tick=lambda: None):
        key = y.tobytes(), *(v.tobytes() for v in x.values()), repeats, seed
        if key not in kept: kept[key] = real(x, y, k, repeats, seed, tick)
        return kept[key]
    collect.learning_scores = once
    yield real
    collect.learning_scores = real

@pytest.fixture(scope="module")
def full(): return latent_records(300, seed=5, shared=1, private_a=1, private_b=1)

@pytest.fixture(scope="module")
def records(full):
    rng = np.random.default_rng(5)
    return hide(full, {"a": rng.random(300) < .8, "b": rng.random(300) < .8}, rng.random(300) < .5)

@pytest.fixture(scope="module")
def plan(records): return plan_collection(records, PRICES, 200, value=100, currency="EUR", repeats=2, n_boot=100)

# ---- pools and purchases

def test_pools_hold_exactly_the_records_that_a_purchase_would_change(records):
    a, b, y = records.present("a"), records.present("b"), records.codes >= 0
    for name, rows in pools(records, "a", "b").items():
        before = np.array([a, b, y])[:, rows]
        assert rows.any() and (before == before[:, :1]).all(), name  # all alike
    found = np.array(list(pools(records, "a", "b").values()))
    assert found.sum(0).max() == 1  # no record in two pools
    assert not found[:, a & b & y].any()  # nothing left to buy on complete records

def test_units_obey_budget_and_stock(records, plan):
    stock = {k: int(v.sum()) for k, v in pools(records, "a", "b").items()}
    for o in plan.options:
        if o.status == "nothing": assert (o.units, o.cost, o.gain.value) == (0, 0, 0); continue
        assert o.units == min(stock[o.name], int(200/PRICES[o.name])) and o.cost == o.units*PRICES[o.name] <= 200

def test_fixed_cost_is_paid_once(records):
    p = plan_collection(records, {"label_pair": 2, "fixed": 100}, 200, repeats=2, n_boot=50)
    assert (p.option("label_pair").units, p.option("label_pair").cost) == (50, 200)

def test_impossible_options_say_why(full):
    p = plan_collection(full, PRICES, 100, repeats=2, n_boot=50)  # complete records: nothing can be bought at all
    assert {o.status for o in p.options} == {"nothing", "impossible"} and p.action == "rank" and all(o.reason for o in p.options if o.status == "impossible")
    q = plan_collection(full, PRICES, 100, value=10, repeats=2, n_boot=50)
    assert q.action == "nothing" and "buy nothing" in q.summary() and "lacks “b”" in q._repr_html_()

def test_a_free_option_takes_the_whole_stock(records):
    p = plan_collection(records, {"label_pair": 0}, 0, value=1, repeats=2, n_boot=50)
    assert p.option("label_pair").units == pools(records, "a", "b")["label_pair"].sum() and p.action == "buy"

# ---- hostile input

@pytest.mark.parametrize("costs, says", [({"label_c": 1}, "Did you mean `label_"), ({"label_a": -1}, "≥ 0"), ({"label_a": math.nan}, "≥ 0"), ({"label_a": "2"}, "≥ 0"), ({}, "mapping"), ([1], "mapping"), ({"fixed": 3}, "no price"), (None, "mapping")])
def test_bad_prices(records, costs, says):
    with pytest.raises(InputError, match=says): plan_collection(records, costs, 100)

def test_a_budget_that_buys_nothing_says_what_the_cheapest_unit_costs(records):
    with pytest.raises(InputError, match=r"budget of 50 EUR buys nothing: the cheapest unit, one `label_a`, costs 1 EUR plus 100 EUR once"): plan_collection(records, PRICES | {"fixed": 100}, 50, currency="EUR")

@pytest.mark.parametrize("change, says", [(dict(budget=-1), "budget"), (dict(budget=math.inf), "budget"), (dict(value=-2), "value"), (dict(value="much"), "value"), (dict(modalities=("a", "c")), "modalities"), (dict(modalities=("a", "a")), "twice"),
    (dict(modalities="ab"), "Two modalities"), (dict(label="labl"), "Did you mean `label`"), (dict(n_boot=1), "n_boot"), (dict(repeats=1), "repeats"), (dict(seed=-1), "seed")])
def test_bad_arguments(records, change, says):
    with pytest.raises(InputError, match=says): plan_collection(**(dict(records=records, costs=PRICES, budget=100) | change))

def test_records_must_be_records_with_two_classes(full):
    with pytest.raises(InputError, match="MultimodalRecords were expected"): plan_collection([1, 2], PRICES, 100)
    with pytest.raises(InputError, match="at least two are needed"): plan_collection(hide(full, {}, full.codes == 0), PRICES, 100)
    with pytest.raises(InputError, match="0 classes"): plan_collection(MultimodalRecords({"a": np.arange(20.), "b": np.arange(20.)}), PRICES, 100)

def test_a_handful_of_labels_gives_bounds_and_never_a_made_up_gain(full):
    few = np.zeros(300, bool); few[:8] = True
    p = plan_collection(hide(full, {}, few), PRICES, 100, value=10, n_boot=50)
    o = p.option("label_pair")
    assert o.status == "bounds" and math.isnan(o.gain.value) and 0 <= o.gain.low <= o.gain.high <= 100 and p.now.note == "no_predictor"
    assert all(v.value == "not_enough_evidence" for v in p.verdicts()) and o.pilot.units == collect.fewest(2)-8

# ---- curves

def test_curves_rise_and_stay_between_0_and_1():
    rng = np.random.default_rng(0); sizes = np.array([20, 40, 80, 160.])[:, None]
    for _ in range(20):
        curve = collect.fit_curve(sizes, rng.random((30, 4)), rng.random(4)*.1, rng); at = np.array([curve([n]) for n in (160, 320, 1000, 1e5, 1e9)])
        assert (np.diff(at, axis=0) >= -1e-12).all() and (at <= 1+1e-12).all()

def test_nonnegative_fit_agrees_with_scipy():
    from scipy.optimize import nnls
    rng = np.random.default_rng(1)
    for c in (1, 2, 3):
        d, y, w = rng.normal(size=(7, c)), rng.normal(size=(15, 7)), rng.random(7)+.1
        coef, misfit = collect.nonnegative_fit(d, y, w)
        for i in range(15):
            best, norm = nnls(d*np.sqrt(w)[:, None], y[i]*np.sqrt(w))
            assert np.allclose(coef[i], best, atol=1e-8) and math.isclose(misfit[i], norm**2, abs_tol=1e-8)

def test_bigger_purchases_promise_no_less(records):
    x, y = collect.samples(records, "a", "b"); s = collect.learning_scores(x, y, 2, repeats=2); now = {m: int((~np.isnan(v[:, 0])).sum()) for m, v in x.items()}
    gains = collect.gain_draws(s, now, {u: {m: v+u for m, v in now.items()} for u in (0, 50, 500, 5000)}, 100, np.random.default_rng(0))[1]
    assert np.allclose(gains[0], 0) and (gains[50] >= -1e-12).all() and (gains[500] >= gains[50]-1e-12).all() and (gains[5000] >= gains[500]-1e-12).all()

def test_features_without_information_promise_next_to_nothing():
    rng = np.random.default_rng(2); n = 500
    r = MultimodalRecords({"a": rng.normal(size=(n, 8)), "b": rng.normal(size=(n, 8))}, label=[int(v) if i < 250 else None for i, v in enumerate(rng.integers(2, size=n))])
    o = plan_collection(r, PRICES, 500, value=10, repeats=2, n_boot=100).option("label_pair")
    assert o.gain.value < 3 and o.gain.low < 0 < o.gain.high and o.net.value < 0 and o.break_even_price < 2

def test_chance_level_is_what_flat_curves_report(plan):
    for o in plan.options:
        if o.status == "measured": assert 0 <= o.gain.chance < 3

def test_subsamples_keep_class_shares_and_are_nested():
    y = np.repeat([0, 1, 2], [100, 50, 10]); order = collect.nested_order(y, np.random.default_rng(0))
    for n in (16, 48, 80): assert np.abs(np.bincount(y[order[:n]], minlength=3)/n-[.625, .3125, .0625]).max() < .04
    fold = collect.class_ranks(y, np.random.default_rng(0)) % 5
    assert all(np.ptp(np.bincount(fold[y == c], minlength=5)) == 0 for c in range(3))

# ---- decisions

def test_value_of_information_agrees_with_brute_force():
    z = np.random.default_rng(0).normal(size=400_000)
    for mean, spread in ((0, 10), (20, 10), (-20, 10), (5, 50)):
        assert math.isclose(value_of_information(mean, spread), np.maximum(mean+spread*z, 0).mean()-max(mean, 0), abs_tol=.15)
    assert value_of_information(1e6, 1.) == 0 == value_of_information(0, 0)

def test_money_adds_up(plan):
    for o in plan.options:
        if o.status != "measured": continue
        assert math.isclose(o.net.value, 100*o.gain.value-o.cost, abs_tol=1e-6) and math.isclose(o.break_even_gain, o.cost/100)
        assert math.isclose(100*o.gain.value-o.units*o.break_even_price, 0, abs_tol=1e-6) and o.net.low <= o.net.value <= o.net.high and 0 <= o.p_loss <= 1
        assert o.pilot is None or (o.pilot.units < o.units and o.pilot.low <= o.pilot.worth <= o.pilot.high)
    assert plan.perfect_information >= 0

def test_the_ranking_is_by_net_value_and_nothing_takes_part(plan):
    nets = [o.net.value if o.net else 0. for o in plan.options if o.status in ("measured", "nothing")]
    assert nets == sorted(nets, reverse=True) and sum(o.status == "nothing" for o in plan.options) == 1

def test_more_value_never_turns_a_purchase_down(records):
    acts = [plan_collection(records, PRICES, 200, value=v, repeats=2, n_boot=50).action for v in (0, 1e6)]
    assert acts == ["nothing", "buy"] or acts == ["nothing", "wait"]

def test_verdicts_agree_with_their_numbers(plan):
    for v in plan.verdicts():
        above, below = v.estimate.low > v.threshold, v.estimate.high < v.threshold
        assert {"pass": above, "warn": above, "fail": below, "not_enough_evidence": not above and not below}[v.value]

def test_bounds_decide_over_the_whole_bracket():
    made = lambda low, high, rival: collect._bounded("label_pair", low, high, 60, "bounds_pairs", 100, 50, 2., 0., 10., rival, 20)
    assert made(80, 90, 0).lean == "always" and made(60, 65, 0).lean == "never" and made(60, 95, 0).lean == "minmax_buy" and made(60, 72, 0).lean == "minmax_skip"
    assert collect._decide([made(60, 95, 0)], 10.) == ("wait", "label_pair", "least_regret") and collect._decide([made(60, 65, 0)], 10.) == ("nothing", "nothing", "expected_value")

# ---- the face

def test_same_seed_same_plan_and_the_order_of_names_only_renames(records, plan, curves_once, monkeypatch):
    monkeypatch.setattr(collect, "learning_scores", curves_once)
    again = plan_collection(records, PRICES, 200, value=100, currency="EUR", repeats=2, n_boot=100)
    assert repr(again.options) == repr(plan.options) and again.now == plan.now
    other = plan_collection(records, PRICES, 200, value=100, modalities=("b", "a"), repeats=2, n_boot=100)
    assert other.option("label_a").units == plan.option("label_b").units and abs(other.option("label_a").gain.value-plan.option("label_b").gain.value) < 2.5

@pytest.mark.parametrize("language", ["en", "ja"])
def test_plan_in_words(plan, language):
    text = plan.summary(language)
    assert "{" not in text and number_in(text, plan.now.value) and (language == "en" or not re.search(r"\b(the|records|gain)\b", text))
    assert plan._repr_html_(language).count("<tr>") == len(plan.options)+1
    assert all("{" not in v.text(part, language) for v in plan.verdicts() for part in ("what", "rule", "next_step"))
    plan.plot(language=language).figure.canvas.draw()

def number_in(text, value): return f"{value:.1f}" in text

def test_plan_travels_as_json(plan):
    back = collect.CollectionPlan.from_json(plan.to_json())
    assert back.to_json() == plan.to_json() and back.action == plan.action and len(back.to_frame()) == len(plan.options)

def test_names_from_the_data_are_text_not_markup(full):
    bad = "<img src=x> $x_1$ {y}"
    r = MultimodalRecords({bad: full.numeric("a"), "写真": full.numeric("b")}, label=[v if i < 150 else None for i, v in enumerate(full.label)], groups={"g": np.where(np.arange(300) % 2, "<b>", "北")})
    p = plan_collection(r, {"label_pair": 1}, 100, value=50, currency="<€>", repeats=2, n_boot=50)
    assert "<img" not in p._repr_html_() and "<€>" not in p._repr_html_() and html.escape(bad) in audit_subgroups(r, "g", n_boot=50, n_null=50, n_perm=100)._repr_html_("ja")
    p.plot().figure.canvas.draw()

def test_progress_reaches_its_total(records, curves_once, monkeypatch):
    monkeypatch.setattr(collect, "learning_scores", curves_once)
    seen = []; plan_collection(records, PRICES, 200, repeats=2, n_boot=50, progress=lambda done, total, what: seen.append((done, total)))
    assert seen[-1] == (10, 10)

# ---- the audit

def regions(n, seed, planted=True):
    r = np.random.default_rng(seed); a, b = r.integers(2, size=(2, n)); north = r.random(n) < .5
    y = (np.where(north, a, a ^ b) if planted else a & b) ^ (r.random(n) < .1)
    return MultimodalRecords({"a": a, "b": b}, label=y, groups={"region": np.where(north, "north", "south"), "rare": np.where(np.arange(n) < 10, "x", np.where(north, "p", "q"))})

QUICK = dict(n_boot=50, n_null=50, n_perm=100)

def test_a_planted_difference_is_flagged():
    audit = audit_subgroups(regions(500, 0), "region", **QUICK)
    assert {("north", "unique_a"), ("south", "synergy"), ("north", "synergy")} <= set(audit.flagged)
    north, south = audit.group("north").differences, audit.group("south").differences
    assert all(math.isclose(north[q].value, -south[q].value, abs_tol=1e-9) and north[q].p_value == south[q].p_value for q in north)  # one comparison, seen from both sides
    assert north["unique_a"].value > 0 > north["synergy"].value and any(v.value == "fail" for v in audit.verdicts())

def test_groups_that_mean_nothing_are_not_flagged():
    flags = []
    for s in range(12):
        r = regions(200, s); g = np.random.default_rng(100+s).permutation(r.groups["region"])
        flags.append(bool(audit_subgroups(MultimodalRecords(r.modalities, r.label, {"region": g}), "region", **QUICK).flagged))
    assert sum(flags) <= 3  # nominal 1 in 20; four or more has probability .002

def test_permuted_differences_are_centred_and_tail_p_is_honest():
    rng = np.random.default_rng(0); null = rng.normal(size=(300, 400)); p = collect.tail_p(rng.normal(size=400), null)
    assert abs((p < .05).mean()-.05) < .03 and (p > 0).all() and (p <= 1).all()
    assert collect.tail_p(np.array([3.]), np.zeros((50, 1)))[0] == 1  # a null without spread cannot reject

def test_holm_against_its_definition():
    p = np.array([.001, .2, .01, .04]); adjusted, level = collect.holm(p)
    assert np.allclose(adjusted, [.004, .2, .03, .08]) and np.allclose(1-level, [.0125, .05, .05/3, .025])

def test_small_groups_are_named_not_judged():
    audit = audit_subgroups(regions(400, 1), "rare", **QUICK); g = audit.group("x")
    assert g.reason == "audit_too_few" and not g.quantities and not g.differences and "too few" in audit._repr_html_() and "件" in audit.summary("ja")+audit._repr_html_("ja")
    with pytest.raises(InputError, match="No group of `rare` has 500 usable records"): audit_subgroups(regions(400, 1), "rare", min_n=500)

def test_without_labelled_pairs_five_quantities_are_compared():
    r = regions(1800, 2); three = np.random.default_rng(0).integers(3, size=1800)
    apart = hide(r, {"a": three != 1, "b": three != 0}, three != 2); audit = audit_subgroups(apart, "region", **QUICK)
    assert audit.mode == "semi-supervised" and set(audit.group("north").differences) == set(collect.COMPARED[:5]) and ("north", "unique_a") in audit.flagged and "synergy_upper" in audit.group("north").quantities

def test_a_proxy_is_found_and_an_innocent_modality_is_not():
    rng = np.random.default_rng(3); g = rng.integers(2, size=400); y = rng.integers(2, size=400)
    r = MultimodalRecords({"a": rng.normal(size=(400, 4))+g[:, None], "b": rng.normal(size=(400, 4))+y[:, None]}, label=y, groups={"sex": np.array(["f", "m"])[g]})
    audit = audit_subgroups(r, "sex", **QUICK)
    assert audit.proxies["a"].low > .6 and audit.proxies["b"].low < .5 < audit.proxies["b"].high+.1 and audit.proxies["a"].chance == .5
    assert [v.value for v in audit.verdicts()[-2:]] == ["fail", "pass"]

@pytest.mark.parametrize("by, says", [("regoin", "Did you mean `region`"), ("id", "at most 20 groups"), ("one", "1 different value")])
def test_bad_attributes(by, says):
    r = regions(100, 0); r = MultimodalRecords(r.modalities, r.label, {"region": r.groups["region"], "id": np.arange(100), "one": ["same"]*100})
    with pytest.raises(InputError, match=says): audit_subgroups(r, by)
    with pytest.raises(InputError, match="no groups"): audit_subgroups(MultimodalRecords(r.modalities, r.label), "region")

def test_audit_travels_and_speaks():
    r = regions(300, 4); g = np.where(np.arange(300) < 12, None, r.groups["region"]); audit = audit_subgroups(MultimodalRecords(r.modalities, r.label, {"region": g}), "region", **QUICK)
    assert audit.unknown == 12 and sum(v.n for v in audit.groups) == 288
    back = collect.SubgroupAudit.from_json(audit.to_json())
    assert back.to_json() == audit.to_json() and back.flagged == audit.flagged and len(audit.to_frame()) == sum(len(v.quantities) for v in audit.groups)
    for language in ("en", "ja"): assert "{" not in audit.summary(language); audit.plot(language=language).figure.canvas.draw()
