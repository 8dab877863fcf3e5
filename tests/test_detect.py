"Detection of wrong pairs: known answers, invariances, planted truth, bad and hostile input."
import json
import numpy as np
import pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.data.bundled import emoji_people, emoji_people_truth, emoji_people_words
from mmkit.data.records import MultimodalRecords
from mmkit.misalignment import detect as D

def world(n=120, swap=.2, seed=0, kinds=12):
    "Two noisy views of the kind of a record; a share of the second view passed around."
    rng = np.random.default_rng([seed, 77]); z = 1.5*rng.normal(size=(kinds, 10))[rng.integers(kinds, size=n)]+.5*rng.normal(size=(n, 10))
    a, b = (z @ rng.normal(size=(10, 15))+.5*rng.normal(size=(n, 15)) for _ in range(2)); who = rng.permutation(n)[:round(swap*n)]; b[who] = b[np.roll(who, 1)]
    return a, b, np.isin(np.arange(n), who)

def auroc(scores, wrong): return (scores[wrong][:, None] < scores[~wrong]).mean()+.5*(scores[wrong][:, None] == scores[~wrong]).mean()
def records(a, b, **kw): return MultimodalRecords({"a": a, "b": b}, **kw)
def people(rows=120, **noise): return emoji_people(rows=rows, image_style="twemoji", **noise), emoji_people_truth(rows=rows, image_style="twemoji", **noise)
WORDS = emoji_people_words()

# ---- known answers and invariances

@pytest.mark.parametrize("method", D.METHODS)
def test_planted_swaps_are_found(method):
    a, b, wrong = world(); r = D.diagnose_misalignment(records(a, b), method=method); assert auroc(r.scores, wrong) > (.8 if method == "neighbours" else .9) and abs(r.quantities["wrong_rate"].value-.2) < .12
    assert r.method == method and set(r.types) <= set(D.TYPES) and ((0 <= r.posterior) & (r.posterior <= 1)).all() and ((0 < r.p_values) & (r.p_values <= 1)).all()
    assert set(r.suspicious(10)["id"]) <= set(r.ids) and np.isin([int(i[1:]) for i in r.suspicious(10)["id"]], np.flatnonzero(wrong)).mean() >= .8

def test_unrelated_modalities_are_all_wrong_and_said_to_be_weak():
    rng = np.random.default_rng(0); r = D.diagnose_misalignment(records(rng.normal(size=(200, 8)), rng.normal(size=(200, 8))))
    assert r.quantities["wrong_rate"].high > .85 and "weak_agreement" in r.notes and r.verdicts()[1].value != "pass"

def test_p_values_of_wrong_pairs_are_uniform():
    from scipy.stats import kstest
    p = np.concatenate([(lambda a, b, w: D.diagnose_misalignment(records(a, b)).p_values[w])(*world(swap=.4, seed=s, kinds=40)) for s in range(6)])
    assert kstest(p, "uniform").statistic < .16

def test_order_scale_and_shift_change_nothing():
    a, b, _ = world(n=80); first = D.diagnose_misalignment(records(a, b)); order = np.random.default_rng(1).permutation(80)
    moved = D.diagnose_misalignment(records(3*a[order]+7, .01*b[order]-2)); assert np.allclose(moved.p_values, first.p_values[order], atol=.01)
    assert np.corrcoef(D.diagnose_misalignment(records(b, a)).scores, first.scores)[0, 1] > .99 # sides change places

def test_same_seed_same_result():
    a, b, _ = world(n=80)
    for method in D.METHODS: x, y = (D.diagnose_misalignment(records(a, b), method=method, seed=3) for _ in range(2)); assert (x.scores == y.scores).all() and x.types == y.types

def test_out_of_fold_never_sees_its_group():
    rng = np.random.default_rng(0); x, y, group = rng.normal(size=(30, 4)), rng.normal(size=(30, 2)), np.repeat(np.arange(10), 3); k = D.rbf(x); first = D.out_of_fold(k, y, .1, np.ones(30), group); y2 = y.copy(); y2[6:9] += 100; y2 -= y2.mean(0)-y.mean(0)
    assert not np.allclose(D.out_of_fold(k, y2, .1, np.ones(30), group)[:3], first[:3]) # others change …
    shifted = y.copy(); shifted[0] += 5; shifted[1] -= 5 # … but what happens inside a group is not seen by it (the mean stays)
    assert np.allclose(D.out_of_fold(k, shifted, .1, np.ones(30), group)[:3], first[:3])

def test_more_pairs_than_a_block(monkeypatch):
    a, b, wrong = world(n=160); monkeypatch.setattr(D, "BLOCK", 70); r = D.diagnose_misalignment(records(a, b)); assert auroc(r.scores, wrong) > .8 and np.isfinite(r.scores).all()
    rec, truth = people(150, redrawn={"tone": .6}); r = D.diagnose_misalignment(rec, factors=WORDS); assert "tone" in r.accused() and r.quantities["wrong_tone"].n > 50

# ---- factors and kinds of error

def test_redrawn_omitted_and_sound_factors():
    rec, _ = people(250, redrawn={"tone": .5}, seed=1); assert D.diagnose_misalignment(rec, factors=WORDS).accused() == ("tone",)
    rec, truth = people(250, omitted={"gender": 1., "role": .2}, seed=1); r = D.diagnose_misalignment(rec, factors=WORDS)
    assert r.accused() == () and set(r.accused("missing")) == {"gender", "role"} and r.quantities["missing_gender"].value == 1
    assert {t for t, n in zip(r.types, r.named) if n == "gender"} == {"systematic"} and np.mean([t == "incomplete" for t, n in zip(r.types, r.named) if n == "role"]) > .6
    rec, _ = people(250); r = D.diagnose_misalignment(rec, factors=WORDS); assert r.accused()+r.accused("missing") == () and np.mean(np.array(r.types) == "right") > .97 and r.rules == ()

def test_japanese_captions():
    rec = emoji_people("ja", image_style="twemoji", swapped=.2, rows=200, seed=2); truth = emoji_people_truth("twemoji", swapped=.2, rows=200, seed=2)
    assert auroc(D.diagnose_misalignment(rec).scores, truth.swapped) > .9 and auroc(D.diagnose_misalignment(rec, factors=emoji_people_words("ja")).scores, truth.swapped) > .9

def test_a_confusion_by_rule_is_systematic():
    rec, truth = people(300, seed=5); tones = np.array(truth.shown["tone"]); hit = (tones == "dark") & (np.random.default_rng(0).random(len(tones)) < .4)
    text = [c.replace(": dark skin", ": light skin") if h else c for c, h in zip(rec.modalities["caption"], hit)]; r = D.diagnose_misalignment(MultimodalRecords({"image": rec.modalities["image"], "caption": text}), factors=WORDS)
    types = np.array(r.types); assert (types[hit] == "systematic").mean() > .5 and (types[~hit] != "right").mean() < .05
    i = np.flatnonzero(hit & (types == "systematic"))[0]; assert (r.named[i], r.said[i], r.expected[i]) == ("tone", "light", "dark")
    assert [c[:3] for c in r.rules] == [("tone", "dark", "light")] and "dark is called light" in r.summary() and "dark" in r.summary("ja")

def test_trusted_pairs_are_never_accused():
    rec, truth = people(150, swapped=.3, seed=1); keep = ~truth.swapped & (np.arange(150) < 60); r = D.diagnose_misalignment(rec, factors=WORDS, trusted=keep); assert (r.posterior[keep] == 0).all()
    assert (D.diagnose_misalignment(rec, trusted=[rec.ids[i] for i in np.flatnonzero(keep)]).posterior[keep] == 0).all()
    with pytest.raises(InputError, match="no such record"): D.diagnose_misalignment(rec, trusted=["p9999"])

def test_a_factor_that_pictures_do_not_show_is_cleared_by_trusted_pairs():
    rec, _ = people(240, seed=3); rng = np.random.default_rng(0); name = np.array(["Ann", "Bob", "Cem"])[rng.integers(3, size=240)]; words = {"name": {n: (n,) for n in ("Ann", "Bob", "Cem")}, "tone": WORDS["tone"]}
    named = MultimodalRecords({"image": rec.modalities["image"], "caption": [f"{n}, {c}" for n, c in zip(name, rec.modalities["caption"])]}); trusted = np.arange(240) < 80
    assert D.diagnose_misalignment(named, factors=words).accused() == ("name",) and D.diagnose_misalignment(named, factors=words, trusted=trusted).accused() == ()
    rec, _ = people(240, redrawn={"tone": .6}, seed=3); truth = people(240, seed=3)[0].modalities["caption"]; mixed = [t if k else c for t, c, k in zip(truth, rec.modalities["caption"], trusted)]
    assert "tone" in D.diagnose_misalignment(MultimodalRecords({"image": rec.modalities["image"], "caption": mixed}), factors=WORDS, trusted=trusted).accused()

def test_contradiction_measures_the_captions_not_the_model():
    rng = np.random.default_rng(0); true = rng.integers(3, size=600); sure = rng.random(600) < .6 # two fifths of the pictures show nothing
    p = np.where(sure[:, None], .9*np.eye(3)[true]+.1/3, 1/3+.01*rng.random((600, 3))); said = np.where(rng.random(600) < .3, rng.integers(3, size=600), true)
    assert abs(D.contradiction(p, said, np.ones(600))[0]-.2) < .05 and D.contradiction(p, true, np.ones(600))[0] == 0

# ---- records that vouch for each other

def test_copies_of_a_pair_do_not_vouch_for_it():
    "Every pair twice, the wrong ones too: left out alone, each copy confirms the other."
    a, b, wrong = world(n=90, seed=3, kinds=45); a2, b2, w2 = np.repeat(a, 2, 0), np.repeat(b, 2, 0), np.repeat(wrong, 2); sides = [D.Side(m, "numbers", (D._scaled(x),), D._components(D._scaled(x)), (), {}) for m, x in (("a", a2), ("b", b2))]
    alone = D.score_pairs(sides, "model"); together = D.diagnose_misalignment(records(a2, b2)); single = D.diagnose_misalignment(records(a, b))
    assert auroc(together.scores, w2) > auroc(np.diag(alone.s), w2)+.1 and abs(together.quantities["wrong_rate"].value-single.quantities["wrong_rate"].value) < .12

def test_groups_are_left_out_together():
    a, b, wrong = world(n=90, seed=3, kinds=45); rng = np.random.default_rng(0); a2, b2, w2 = (*(np.repeat(v, 2, 0)+1.2*rng.normal(size=(180, 15)) for v in (a, b)), np.repeat(wrong, 2)); pair = np.repeat(np.arange(90), 2)
    free, grouped = (D.diagnose_misalignment(records(a2, b2, groups={"pair": pair}), groups=g) for g in (None, "pair")); assert auroc(grouped.scores, w2) > auroc(free.scores, w2)+.02
    assert (D.diagnose_misalignment(records(a2, b2), groups=pair).scores == grouped.scores).all()
    with pytest.raises(InputError, match="one group"): D.diagnose_misalignment(records(a, b), groups=np.zeros(90))
    with pytest.raises(InputError, match="3 entries"): D.diagnose_misalignment(records(a, b), groups=[1, 2, 3])
    with pytest.raises(InputError, match="groups"): D.diagnose_misalignment(records(a, b, groups={"pair": pair[:90]}), groups="pairs")

def test_near_twins_are_said_and_left_out():
    r = D.diagnose_misalignment(emoji_people(distinct=False, rows=300, swapped=.2)); few = D.diagnose_misalignment(emoji_people(rows=120, swapped=.2))
    assert "wrong_rate_distinct" not in few.quantities and ("wrong_rate_distinct" in r.quantities) == ("weak_near_duplicates" in r.notes)
    x = np.repeat(np.random.default_rng(0).normal(size=(60, 30)), 2, 0); noisy = x+.01*np.random.default_rng(1).normal(size=x.shape); r = D.diagnose_misalignment(records(noisy, x @ np.random.default_rng(2).normal(size=(30, 8))))
    assert "weak_near_duplicates" in r.notes and r.quantities["wrong_rate_distinct"].n == 60

# ---- bad input

def test_bad_input_is_refused_in_words():
    a, b, _ = world(n=60); same = np.ones((60, 3))
    with pytest.warns(WeakInputWarning), pytest.raises(InputError, match="`b` is the same in all"): D.diagnose_misalignment(records(a, same))
    with pytest.warns(WeakInputWarning), pytest.raises(InputError, match="is the same in all"): D.diagnose_misalignment(records(same, same))
    with pytest.warns(WeakInputWarning), pytest.raises(InputError, match="no word that tells"): D.diagnose_misalignment(MultimodalRecords({"a": a, "text": ["one caption"]*60}))
    with pytest.raises(InputError, match="no word that tells"): D.diagnose_misalignment(MultimodalRecords({"a": a, "text": [f"w{i}" for i in range(60)]})) # every word once
    with pytest.raises(InputError, match="at least 20 pairs"): D.diagnose_misalignment(records(a[:19], b[:19]))
    many = {f"f{k}": {"x": ("x",), "y": ("y",)} for k in range(40)} # fewer pairs than factors need
    with pytest.raises(InputError, match="40 factors"): D.diagnose_misalignment(MultimodalRecords({"a": a, "text": ["x"]*30+["y"]*30}), factors=many)
    with pytest.raises(InputError, match="neither `a` nor `b` is text"): D.diagnose_misalignment(records(a, b), factors=WORDS)
    for bad in ({"tone": {"light": ("light",)}}, {"tone": ("light", "dark")}, {"tone": {"light": (), "dark": ("dark",)}}):
        with pytest.raises(InputError, match="factors"): D.diagnose_misalignment(MultimodalRecords({"a": a, "text": ["x y"]*30+["y z"]*30}), factors=bad)
    for kw in (dict(level=1.2), dict(seed=-1), dict(method="magic"), dict(modalities=("a",)), dict(modalities="ab"), dict(modalities=("a", "c"))):
        with pytest.raises(InputError): D.diagnose_misalignment(records(a, b), **kw)
    with pytest.raises(InputError, match="MultimodalRecords"): D.diagnose_misalignment({"a": a})

def test_missing_cells_stay_missing():
    a, b, _ = world(n=80); a[5] = np.nan; b[9] = np.nan; r = D.diagnose_misalignment(records(a, b)); gap = np.isin(np.arange(80), (5, 9))
    assert np.isnan(r.scores[gap]).all() and np.isfinite(r.scores[~gap]).all() and [r.types[i] for i in (5, 9)] == ["", ""] and r.quantities["wrong_rate"].n == 78 and len(r.suspicious(100)) == 78

def test_small_and_odd_inputs_do_not_break():
    a, b, _ = world(n=24); r = D.diagnose_misalignment(records(a, b)); assert r.method == "neighbours" and "weak_few_pairs_detect" in r.notes
    for x in (a[:, :1], np.where(a > 0, 1., 0.), np.round(a)): assert np.isfinite(D.diagnose_misalignment(records(np.vstack([x, x+1e-3]), np.vstack([b, b])), method="model").scores).all()
    text = ["red car", "blue car", "", "red bus", "?!"]*12; assert np.isfinite(D.diagnose_misalignment(MultimodalRecords({"a": np.random.default_rng(0).normal(size=(60, 4)), "text": text})).scores).all()
    grey = np.random.default_rng(0).integers(0, 255, (60, 12, 10)).astype(np.uint8); assert np.isfinite(D.diagnose_misalignment(MultimodalRecords({"picture": grey, "text": text})).scores).all()

def test_names_of_groups_as_factors():
    rec, truth = people(150, seed=1); r = D.diagnose_misalignment(rec, factors=("gender",)); assert r.factors == ("gender",) and r.quantities["missing_gender"].value == 0
    with pytest.raises(InputError, match="Did you mean `gender`"): D.diagnose_misalignment(rec, factors=("gendr",))

# ---- the face

def test_hostile_text_is_escaped():
    a, b, _ = world(n=60); bad = '<script>alert("x")</script>'; text = [f"{bad} red" if i % 2 else f"{bad} blue" for i in range(60)]
    rec = MultimodalRecords({bad: a, "text": text}, ids=[f"{bad}{i}" for i in range(60)]); r = D.diagnose_misalignment(rec, factors={bad: {"<b>": ("red",), "</td>": ("blue",)}})
    for page in (r.gallery(rec, 60).html, r.gallery(rec, 5, "ja").html, r._repr_html_(), r._repr_html_("ja")): assert "<script" not in page and "<b>" not in page and "&lt;script&gt;" in page

def test_gallery_is_self_contained(tmp_path):
    rec, _ = people(60, swapped=.2); r = D.diagnose_misalignment(rec, factors=WORDS); page = r.gallery(rec, 6).html
    assert page.count("data:image/png;base64") == 6 and "http" not in page and page.count("<tr>") == 7 and "alt=" in page
    for language in ("en", "ja"): assert r.save_html(tmp_path/f"{language}.html", language).stat().st_size < 3e6
    with pytest.raises(InputError, match="not the records"): r.gallery(people(61)[0])
    kinds = r.suspicious(60, kind="swapped"); assert set(kinds["type"]) == {"swapped"} and len(kinds) == r.types.count("swapped") and all(e.count(" / ") == 2 for e in kinds["expected"])
    with pytest.raises(InputError, match="Did you mean `swapped`"): r.gallery(rec, kind="swaped")
    plain = D.diagnose_misalignment(rec).suspicious(60, kind="swapped"); assert any("skin" not in e and e for e in plain["expected"])

def test_json_round_trip_and_verdicts_agree_with_numbers():
    rec, _ = people(120, swapped=.3, omitted={"tone": .5}); r = D.diagnose_misalignment(rec, factors=WORDS); again = D.MisalignmentResult.from_json(r.to_json())
    assert repr(again) == repr(r) and (again.posterior == r.posterior).all() and again.quantities == r.quantities and again.types == r.types; json.loads(r.to_json())
    for v in r.verdicts(D.DetectPolicy(max_wrong=.1)):
        good = v.estimate.high < v.threshold if v.rule == "rule_below" else v.estimate.low > v.threshold; assert (v.value in ("pass", "warn")) == good
        for language in ("en", "ja"): assert v.text("what", language) and v.text("rule", language) and v.text("next_step", language)
    with pytest.raises(InputError): D.DetectPolicy(max_wrong=2)
    for key in r.quantities: assert r.name_of(key, "ja") and r.name_of(key)
