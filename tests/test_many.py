"Sample-size curves and more than two modalities: known answers, limits, hostile input."
import itertools, math, warnings
import numpy as np
import pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.data.records import MultimodalRecords
from mmkit.data.synthetic import GATES, gate, random_table
from mmkit.interactions.bounds import inner_synergy
from mmkit.interactions.estimate import InteractionPolicy, additive_table, interactions_from_counts, known_quantities
from mmkit.interactions.many import ManyInteractions, quantify_many, redraws_for
from mmkit.interactions.pid import decompose
from mmkit.interactions.sample_size import (PARTS, PLANNED, SampleSizeCurve, SizePoint, crossing, most_joint_table, parts, pilot_intervals, planning_laws,
                                            sample_size_curve, share, simulate)
from mmkit.interactions.tables import PairTables
from mmkit.language import MESSAGES
from mmkit.results import Estimate

def margins(p): return p.sum(1), p.sum(0), p.sum(2)
def pilot(p, n, seed=0, **more):
    c = np.random.default_rng(seed).multinomial(n, p.ravel()).reshape(p.shape).astype(float)
    return interactions_from_counts(PairTables(*margins(c), c), ("scan", "blood"), "outcome", n_boot=60, n_null=60, **more)
def coded(p, copies): return np.repeat(np.repeat(p, copies, 0), copies, 1)/copies**2
XOR = coded(.75*gate("xor")+.25*gate("xor")[:, :, ::-1], 3)

@pytest.fixture(scope="module")
def labelled(): return pilot(XOR, 200)
@pytest.fixture(scope="module")
def curve(labelled): return sample_size_curve(labelled, sizes=[100, 400, 1600], sets=20)

# ---- the quick values

@pytest.mark.parametrize("seed", range(6))
def test_parts_agree_with_the_decomposition(seed):
    p = random_table(4, 3, 2+seed % 3, seed, zeros=.3*(seed % 2)); d = decompose(p); found = dict(zip(PARTS, parts(p[None])[0]))
    for q in PLANNED: assert found[q] == pytest.approx(getattr(d, q), abs=2e-6)
    assert found["added_by_a"] == pytest.approx(found["unique_a"]+found["synergy"], abs=2e-6)

def test_swapping_the_modalities_swaps_the_private_parts():
    p = np.stack([random_table(4, 4, 3, s) for s in range(5)]); a, b = parts(p), parts(p.swapaxes(1, 2)); at = PARTS.index
    assert np.allclose(a[:, at("unique_a")], b[:, at("unique_b")], atol=2e-6) and np.allclose(a[:, at("synergy")], b[:, at("synergy")], atol=2e-6)

def test_a_simulated_pilot_gets_the_interval_that_a_real_one_gets():
    r = pilot(coded(gate("bsc_10_20"), 3), 600, 3); ends = pilot_intervals(r.tables["p_aby"]*600, 200, 200, np.random.default_rng(0))
    for q in PLANNED:
        e = r.quantities[q]
        assert np.clip(ends[q], 0, r.label_entropy) == pytest.approx((e.low, e.high), abs=.03), q

@pytest.mark.parametrize("counts", [np.full((1, 4, 2), 9.), np.full((4, 1, 2), 9.), np.full((4, 4, 1), 9.)])
def test_a_pilot_without_variety_settles_nothing(counts): assert pilot_intervals(counts, 50, 50, np.random.default_rng(0))["synergy"] == (-math.inf, math.inf)

# ---- planning worlds

@pytest.mark.parametrize("quantity", PLANNED)
def test_worlds_have_the_wanted_value_and_the_observed_pairs(quantity):
    p = random_table(4, 4, 3, 8, deterministic=.6)
    r = additive_table(margins(p), 500); top = parts(p[None])[0, PARTS.index(quantity)]; wanted = np.array([.2, .5, .9])*top
    laws = planning_laws(r, p, quantity, wanted)
    assert parts(laws)[:, PARTS.index(quantity)] == pytest.approx(wanted, abs=2e-3)
    assert np.allclose(laws.sum(3), p.sum(2), atol=1e-9) and np.allclose(laws.sum((1, 2, 3)), 1) and (laws >= 0).all()

def test_nothing_wanted_is_independence_and_too_much_is_the_richest_table():
    p = random_table(3, 3, 2, 1, deterministic=.8); r = additive_table(margins(p), 500); none, most = planning_laws(r, p, "unique_a", [0, 9])
    assert parts(none[None])[0, PARTS.index("unique_a")] < 1e-3 and np.allclose(most, p)

@pytest.mark.parametrize("name", ["xor", "and", "bsc_10_20", "rdnerr"])
def test_the_most_joint_table_keeps_its_margins_and_reaches_the_inner_bound(name):
    three = margins(gate(name)); t = most_joint_table(three)
    assert all(np.allclose(x, y, atol=1e-8) for x, y in zip(margins(t), three))
    union = known_quantities(gate(name)); union = union["redundancy"]+union["unique_a"]+union["unique_b"]
    assert parts(t[None])[0, 0] == pytest.approx(inner_synergy(three, union), abs=1e-6)
    assert parts(t[None])[0, 0] >= GATES[name]["synergy"]-1e-6

# ---- shares and crossings

def test_wilson_interval_of_a_textbook_case():
    e = share(8, 10, .05)  # Wilson 1927: 8 of 10 -> .490, .943
    assert (e.low, e.high) == pytest.approx((.4902, .9433), abs=1e-4) and e.value == .8

def test_crossings():
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes, shares = np.sort(rng.choice(np.arange(10, 5000), 6, replace=False)), rng.random(6); at = [crossing(sizes, shares, t) for t in (.3, .6, .9)]
        assert at == sorted(at) and all(math.isinf(n) or sizes[0] <= n <= sizes[-1] for n in at)
        assert crossing(sizes, shares+.1, .6) <= at[1]  # better shares never need more labels

def test_a_clear_value_settles_and_a_value_on_the_line_does_not():
    rng = np.random.default_rng(1); clear = simulate("x", XOR[None], "synergy", .05, 2000, 40, 50, 50, rng)
    assert clear.settled.value == clear.right.value == 1
    value = known_quantities(XOR)["synergy"]; line = simulate("x", XOR[None], "synergy", value, 2000, 40, 50, 50, rng)
    assert line.settled.low < .15 and line.right.value <= line.settled.value

# ---- the curve

def test_the_curve_rises_and_narrows(curve):
    points = curve.curve("estimate")
    assert points[0].settled.value <= points[-1].settled.value and [p.width for p in points] == sorted((p.width for p in points), reverse=True)
    low, high = curve.settles_between
    assert low <= curve.settles_at <= high and curve.sizes == (100, 400, 1600) and curve.n_now == 200

def test_half_of_the_pilots_settle_where_the_one_line_formula_ends():
    "The formula asks the expected interval to touch the line; with a normal estimate that is one half."
    law = coded(.7*gate("xor")+.3*gate("xor")[:, :, ::-1], 2); r = pilot(law, 400, 1); e = r.quantities["synergy"]
    n = round(400*((e.value-e.low)/(e.value-.03))**2)
    c = sample_size_curve(r, sizes=[max(n, 40)], sets=60, policy=InteractionPolicy(min_bits=.03)); assert c.formula_at == pytest.approx(n, abs=1)
    assert .25 < c.counted[0].settled.value < .8

def test_a_line_on_the_estimate_is_never_settled(labelled):
    c = sample_size_curve(labelled, policy=InteractionPolicy(min_bits=labelled.quantities["synergy"].value), sizes=[20_000], sets=20)
    assert c.settles_at is None and c.formula_at == math.inf and "too close" in c.summary() and "近すぎます" in c.summary("ja")
    assert c.verdicts()[0].value == "fail"

def test_without_labelled_pairs_the_worse_of_two_worlds_counts():
    c = np.random.default_rng(2).multinomial(600, coded(gate("bsc_10_20"), 2).ravel()).reshape(4, 4, 2).astype(float)
    r = interactions_from_counts(PairTables(*margins(c), 0*c), n_boot=60, n_null=60); s = sample_size_curve(r, sizes=[100, 1600], sets=20)
    assert s.laws == ("least_joint", "most_joint") and s.formula_at is None and s.assured_at is None and math.isnan(s.now.value)
    assert all(p.settled.value == min(q.settled.value for q in s.points if q.n == p.n) for p in s.counted)
    assert "two worlds" in s.summary() and "2通り" in s.summary("ja")

def test_what_is_settled_already_says_so(labelled):
    c = sample_size_curve(labelled, policy=InteractionPolicy(min_bits=.7), sizes=[100, 200], sets=20)
    assert c.settles_at == 100 and "or fewer" in c.summary() and "still holds" in c.summary() and "以下でも" in c.summary("ja")

def test_same_seed_same_curve_and_sizes_do_not_disturb_each_other(labelled, curve):
    assert sample_size_curve(labelled, sizes=[400], sets=20).points == tuple(p for p in curve.points if p.n == 400)
    assert sample_size_curve(labelled, sizes=[400], sets=20, seed=1).points != tuple(p for p in curve.points if p.n == 400)

def test_the_face_of_a_curve(curve, tmp_path):
    assert SampleSizeCurve.from_json(curve.to_json()).to_json() == curve.to_json()
    assert list(curve.to_frame().columns)[:3] == ["law", "n", "settled"] and len(curve.to_frame()) == 6
    for language in ("en", "ja"):
        assert "<table" in curve._repr_html_(language) and curve.plot(language=language).get_xlabel()
        assert all(v.text(part, language) for v in curve.verdicts() for part in ("what", "rule", "next_step"))
        assert curve.save_html(tmp_path/f"{language}.html", language).stat().st_size < 1e6

def test_random_curves_never_contradict_themselves(curve):
    from dataclasses import replace
    rng = np.random.default_rng(3)
    for _ in range(100):
        points = tuple(SizePoint("least_joint", n, .1, share(rng.integers(0, 41), 40, .05), share(0, 40, .025)) for n in (100, 200, 400)); c = replace(curve, points=points)
        v = c.verdicts()[0]; low, high = c.settles_between
        assert (v.value == "pass") == (v.estimate.low > .8) and (v.value != "pass" or c.settles_at) and low <= high
        assert ("No size" in c.summary()) == (c.settles_at is None)

def test_names_from_outside_are_escaped(labelled):
    from dataclasses import replace
    c = sample_size_curve(replace(labelled, modality_a="<script>x</script>$a_b$"), "unique_a", sizes=[100], sets=20)
    assert "<script>" not in c._repr_html_() and c.plot().figure._repr_png_()

@pytest.mark.parametrize("options, words", [
    (dict(quantity="sinergy"), "Did you mean"), (dict(sizes=[5]), "two for each cell"), (dict(sizes=[]), "list of whole numbers"), (dict(sizes="many"), "list of whole numbers"),
    (dict(sizes=[200.5]), "whole number"), (dict(sets=3), "sets"), (dict(target=1.2), "target"), (dict(n_boot=10), "n_boot"), (dict(seed=-1), "seed"),
    (dict(policy=.05), "InteractionPolicy"), (dict(policy=InteractionPolicy(min_bits=0)), "0 bits")])
def test_curves_refuse_in_words(labelled, options, words):
    with pytest.raises(InputError, match=words): sample_size_curve(labelled, **options)

def test_curves_refuse_other_results():
    with pytest.raises(InputError, match="InteractionResult"): sample_size_curve({"synergy": .1})

# ---- more than two modalities

def world(n, seed, rule, **more):
    c = np.random.default_rng(seed).integers(2, size=(3, n))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakInputWarning)
        return MultimodalRecords(dict(a=c[0], b=c[1], c=c[2]) | {k: f(c) for k, f in more.items()}, label=rule(c))

@pytest.fixture(scope="module")
def xor3(): return quantify_many(world(400, 1, lambda c: c[0] ^ c[1] ^ c[2]), n_boot=60)

def test_an_exclusive_or_of_three_hides_from_pairs_but_not_from_the_rest(xor3):
    assert all(r.quantities["synergy"].high < .05 for r in xor3.pairs) and min(xor3.adjusted) > .05
    assert all(r.quantities["synergy"].low > .9 and r.quantities["unique_a"].high < .05 for r in xor3.rest.values())
    assert xor3.droppable() == () and all(v.value == "pass" for v in xor3.verdicts()[:3]) and all(v.value == "fail" for v in xor3.verdicts()[3:])

def test_copies_private_and_useless():
    m = quantify_many(world(600, 2, lambda c: 2*c[0]+c[1], copy=lambda c: c[0].copy()), n_boot=60)
    assert m.ranking[0] == m.private_ranking[0] == "b" and set(m.droppable()) == {"a", "copy", "c"} and m.losses["b"].value == pytest.approx(1, abs=.05)
    assert m.pair("copy", "a").quantities["redundancy"].value == pytest.approx(1, abs=.05)
    assert "one modality only" in m.verdicts()[1].text("next_step")
    assert "any one of" in m.summary()

def test_holm_corrects_the_pairs(xor3):
    raw = np.array([r.quantities["synergy"].p_value for r in xor3.pairs]); order = np.argsort(raw)
    expected = np.minimum(np.maximum.accumulate(raw[order]*(3-np.arange(3))), 1)
    assert np.array(xor3.adjusted)[order] == pytest.approx(expected) and xor3.comparisons == 3

@pytest.mark.parametrize("pairs", [1, 6, 15, 66])
def test_enough_redraws_to_reach_significance(pairs): assert pairs/(1+redraws_for(pairs)) < .05

def test_many_looks_turn_a_pass_into_a_caution(xor3):
    from dataclasses import replace
    planted = replace(xor3.pairs[0], quantities=xor3.pairs[0].quantities | {"synergy": Estimate(.3, .2, .4, 0., 400, "more", "bits", .03)})
    m = replace(xor3, pairs=(planted, *xor3.pairs[1:]), adjusted=(.09, 1., 1.)); assert m.verdicts()[3].value == "warn"
    assert replace(m, adjusted=(.01, 1., 1.)).verdicts()[3].value == "pass"

def test_two_modalities_are_one_pair():
    m = quantify_many(world(300, 3, lambda c: c[0] ^ c[1]), ["a", "b"], n_boot=60)
    assert len(m.pairs) == 1 and m.rest["a"] is m.rest["b"] is m.pairs[0] and m.droppable() == ()
    assert m.losses["b"] == m.pairs[0].quantities["added_by_b"]

def test_the_order_of_modalities_changes_names_only():
    r = world(400, 4, lambda c: c[0] & c[1]); first, second = quantify_many(r, ["a", "b", "c"], n_boot=60), quantify_many(r, ["c", "b", "a"], n_boot=60)
    for x, y in itertools.combinations("abc", 2): assert first.pair(x, y).quantities["synergy"].value == pytest.approx(second.pair(x, y).quantities["synergy"].value, abs=.02)
    assert {m: first.losses[m].value for m in "abc"} == pytest.approx({m: second.losses[m].value for m in "abc"}, abs=.02)

def test_without_labelled_pairs_everything_joint_is_a_bracket():
    r = world(1200, 5, lambda c: c[0]); part = np.arange(1200) % 4; hide = lambda m, i: np.where((part == i) | (part == 3), r.modalities[m].astype(float), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakInputWarning)
        split = MultimodalRecords({m: hide(m, i) for i, m in enumerate("abc")}, label=[v if p < 3 else None for v, p in zip(r.label, part)])
    m = quantify_many(split, against_rest=False, n_boot=60)
    assert m.rest == {} and m.comparisons == 0 and m.ranking == () and "not measured" in m.summary() and m.plot().figure and "joint" in next(iter(m.estimates()))
    assert ManyInteractions.from_json(m.to_json()).to_json() == m.to_json()

def test_the_face_of_many(xor3, tmp_path):
    assert ManyInteractions.from_json(xor3.to_json()).to_json() == xor3.to_json()
    f = xor3.to_frame(); assert len(f[f.comparison == "pair"].groupby(["modality_a", "modality_b"])) == 3 and {"a", "b", "c"} == set(f[f.comparison == "rest"].modality_a)
    assert f[(f.comparison == "pair") & (f.quantity == "synergy")].adjusted_p.notna().all()
    for language in ("en", "ja"):
        assert "<table" in xor3._repr_html_(language) and xor3.plot(language=language).figure.axes[1].get_title() and xor3.summary(language)
        assert all(v.text(part, language) for v in xor3.verdicts() for part in ("what", "rule", "next_step"))
        assert xor3.save_html(tmp_path/f"{language}.html", language).stat().st_size < 1e6

def test_progress_counts_to_the_end():
    seen = []; quantify_many(world(300, 6, lambda c: c[0]), n_boot=50, n_null=50, progress=lambda *x: seen.append(x))
    assert seen[-1][0] == seen[-1][1] and [s[0] for s in seen] == sorted(s[0] for s in seen) and seen[-1][2] == "c – a + b"

def test_hostile_names_are_escaped():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakInputWarning)
        c = np.random.default_rng(0).integers(2, size=(3, 300)); m = quantify_many(MultimodalRecords({"<b>x</b>": c[0], "$y_1$": c[1], "a:b": c[2]}, label=c[0]), n_boot=50, n_null=50)
    assert "<b>" not in m._repr_html_() and m.plot().figure._repr_png_() and m.pair("a:b", "$y_1$").modality_b == "a:b"
    assert [m.name_of(k) for k in m.estimates()] and ManyInteractions.from_json(m.to_json()).to_json() == m.to_json()

def test_many_refuses_in_words():
    r = world(60, 7, lambda c: c[0] ^ c[1])
    for bad, words in ((["a"], "at least two"), ([], "empty"), (["a", "bb"], "not known"), (["a", "a"], "twice"), ("ab", "list of names"), (3, "list of names")):
        with pytest.raises(InputError, match=words): quantify_many(r, bad)
    with pytest.raises(InputError, match="carry the label"): quantify_many(r, label="outcome")
    with pytest.raises(InputError, match="MultimodalRecords"): quantify_many([[1, 2]])
    with pytest.raises(InputError, match="True or False"): quantify_many(r, against_rest=1)
    thirteen = MultimodalRecords({f"m{i}": np.random.default_rng(i).integers(2, size=60) for i in range(13)}, label=r.label)
    with pytest.raises(InputError, match="78 pairs"): quantify_many(thirteen)

def test_messages_have_both_languages():
    assert all(set(MESSAGES[k]) == {"en", "ja"} for k in MESSAGES if k.startswith(("curve_", "many_", "law_"))) and "curve_never" in MESSAGES and "many_none" in MESSAGES
