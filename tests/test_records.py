"Hostile input and invariances of `mmkit.data.records`."
import pickle, subprocess, sys, warnings
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings, strategies as st
from mmkit.checks import InputError, WeakInputWarning
from mmkit.data.records import MultimodalRecords, Quality
from mmkit.results import from_plain, to_plain

RNG = np.random.default_rng(0)

def small(**changes):
    base = dict(modalities={"image": RNG.integers(0, 255, (6, 4, 4, 3)).astype(np.uint8), "sensor": np.arange(12.).reshape(6, 2), "text": list("abcdef")},
                label=["x", "y", "x", None, "y", "y"], groups={"shop": list("uuvvuv")}, ids=list("pqrstu"))
    return MultimodalRecords(**{**base, **changes})

def silent(): return warnings.catch_warnings(action="error")

@pytest.mark.parametrize("changes, words", [
    (dict(modalities={"a": [1, 2, 3], "b": [1, 2]}, label=None, groups=None, ids=None), "`b` has 2 entries but `a` has 3"),
    (dict(label=["x"]), "`label` has 1 entries but `image` has 6"),
    (dict(groups={"shop": ["u"]}), r"`groups\[shop\]` has 1 entries"),
    (dict(ids=list("pqrstt")), "1 duplicates: 't'"),
    (dict(ids=[1, "1", 2, 3, 4, 5]), "duplicates: '1'"),
    (dict(ids=["p", None, "r", "s", "t", "u"]), "`ids` is empty in row 1"),
    (dict(ids=list("pq")), "`ids` has 2 entries"),
    (dict(modalities={}), "at least one entry"),
    (dict(modalities=[[1, 2]]), "must be a dictionary"),
    (dict(modalities={"a": "abcdef"}), "is a str"),
    (dict(modalities={"a": [1, 2, np.inf, 4, 5, 6]}), r"infinite values \(row 2\)"),
    (dict(modalities={"a": [[1., 2.]]*5+[[1., np.nan]]}), r"partly NaN in 1 records \(row 5\)"),
    (dict(modalities={"a": [1, "two", 3, 4, 5, 6]}), "number and text"),
    (dict(modalities={"a": [{"k": 1}]*6}), "numbers"),
    (dict(modalities={"a": [object()]*6}), "object values"),
    (dict(modalities={"a": np.array(["2026-01-01"]*6, dtype="M8[D]")}), "dates to days"),
    (dict(modalities={"a": np.zeros((6, 2), dtype=complex)}), "complex128"),
    (dict(modalities={"a": np.zeros((6, 0))}), "is empty"),
    (dict(modalities={"a": [None]*6}), "missing in every record"),
    (dict(modalities={"a": [[1, 2], [1, 2], [1, 2, 3], None, [1, 2], [1, 2]]}), "in row 2"),
    (dict(features={"text": list("abcdef")}), r"features\[text\]` has shape .* numbers were expected"),
    (dict(features={"text": np.zeros((5, 2))}), r"`features\[text\]` has 5 entries"),
    (dict(label=np.zeros((6, 2))), "one label for each record"),
    (dict(label=["x", 1, None, "y", "x", "y"]), "number and text"),
    (dict(label_name="text"), "names a modality and the label"),
    (dict(cells={"image": [True]}), "true/false values were expected"),
    (dict(cells={"imge": np.ones(6, bool)}), "Did you mean `image`"),
])
def test_refused_at_the_door(changes, words):
    with pytest.raises(InputError, match=words): small(**changes)

def test_sound_data_is_silent():
    with silent(): r = small()
    assert len(r) == 6 and r.classes == ("x", "y") and r.codes.tolist() == [0, 1, 0, -1, 1, 1]

def test_user_arrays_are_neither_changed_nor_shared():
    x = np.arange(6.); r = small(modalities={"a": x}); before = r.fingerprint
    x[0] = 99
    assert x.flags.writeable and r.modalities["a"][0] == 0 and r.fingerprint == before
    with pytest.raises(ValueError): r.modalities["a"][0] = 1
    with pytest.raises(AttributeError): r.label = None
    small(cells={"text": (mask := np.ones(6, bool))}); assert mask.flags.writeable

def test_missing_cells_in_every_dialect():
    s = pd.Series(["a", None, np.nan, pd.NA, "e", ""]); n = pd.Series([1, None, 3, 4, 5, 6], dtype="Int64")
    r = small(modalities={"text": s, "count": n, "image": [np.ones((2, 2, 3), np.uint8)*i if i != 1 else None for i in range(6)]})
    assert r.present("text").tolist() == [True, False, False, False, True, True]   # an empty text is a text
    assert r.present("count").tolist() == r.present("image").tolist() == [True, False, True, True, True, True]
    assert r.modalities["image"].dtype == np.uint8 and np.isnan(r.numeric("image")[1]).all()

def test_pillow_pictures():
    from PIL import Image
    r = MultimodalRecords({"image": [Image.new("RGB", (3, 2), c) for c in ("red", "blue")]})
    assert r.modalities["image"].shape == (2, 2, 3, 3)

# ---- label, leak, constant

def weak(**k):
    with warnings.catch_warnings(record=True) as caught: warnings.simplefilter("always"); MultimodalRecords(**k)
    return [str(w.message) for w in caught if issubclass(w.category, WeakInputWarning)]

Y = np.random.default_rng(1).integers(0, 3, 60)
@pytest.mark.parametrize("x, leaked", [
    (Y, "`m`"), (Y*1., "`m`"), (2-Y, "`m`"), (np.array([.3, 9, -2])[Y], "`m`"), (np.c_[RNG.normal(size=60), Y], r"`m\[1\]`"),
    ([["cat", "dog", "eel"][v] for v in Y], "`m`"), ([["apple", "pear", "plum"][v] for v in Y], "`m`"),
    ([["Cat ", "DOG", "eel"][v] if i % 3 else f"free text {i}" for i, v in enumerate(Y)], "`m`"),
])
def test_leak_is_named(x, leaked):
    assert any("leaked into "+leaked.replace("\\", "") in m for m in weak(modalities={"m": x}, label=[["cat", "dog", "eel"][v] for v in Y]))

@pytest.mark.parametrize("x", [
    RNG.normal(size=60), np.arange(60), RNG.normal(size=(60, 50)), Y % 2, (Y+(np.arange(60) == 7)) % 3*1., [f"text {i}" for i in range(60)],
    [["apple", "pear", "plum"][v] if i else "plum" for i, v in enumerate(Y-1)], RNG.integers(0, 255, (60, 2, 2, 3)).astype(np.uint8)])
def test_no_false_alarm(x):
    assert weak(modalities={"m": x}, label=Y) == []

def test_all_distinct_labels_do_not_make_every_column_a_leak():
    assert weak(modalities={"m": np.arange(8.)}, label=list("abcdefgh")) == []

def test_leak_in_features_and_only_where_labelled():
    label = [None if i % 2 else int(v) for i, v in enumerate(Y)]; x = np.where(np.arange(60) % 2, 77., Y)
    assert any("`features[t]`" in m for m in weak(modalities={"t": [f"t{i}" for i in range(60)]}, features={"t": x}, label=label))

def test_constant_columns():
    assert "`m` is constant in 1 of 2 columns" in weak(modalities={"m": np.c_[np.ones(60), RNG.normal(size=60)]})[0]
    assert "`t` is constant" in weak(modalities={"t": ["same"]*60})[0]
    with pytest.warns(WeakInputWarning): r = MultimodalRecords({"m": np.ones((60, 2)), "o": RNG.normal(size=60)}, label=Y)
    for ask in (lambda: r.labelled("m"), lambda: r.paired("m", "o"), lambda: r.triples("o", "m")):
        with pytest.raises(InputError, match="`m` is the same in all 60"): ask()

def test_one_class_is_refused_when_a_label_is_needed_only():
    r = small(label=["x", "x", None, None, None, None])
    assert len(r.paired("sensor", "image")[0]) == 6
    with pytest.raises(InputError, match="same `label` .'x'."): r.labelled("sensor")
    with pytest.raises(InputError, match="have no `label`"): small(label=None).labelled("sensor")
    with pytest.raises(InputError, match="No record has"): small(label=[None]*5+["x"], modalities={"a": [1, 2, 3, 4, 5, None]}).labelled("a")

def test_a_quantity_as_label_is_weak():
    r = MultimodalRecords({"m": RNG.normal(size=200)}, label=RNG.normal(size=200))
    with pytest.warns(WeakInputWarning, match="group it into a few classes"): r.labelled("m")

def test_empty_intersection_counts_what_is_there():
    r = MultimodalRecords({"a": [1, 2, None], "b": [None, None, 5]})
    with pytest.raises(InputError, match="2 have `a`, 1 have `b`"): r.paired("a", "b")

def test_unknown_modality_gets_the_nearest_name():
    r = small()
    for ask in (r.present, r.numeric, r.labelled, lambda k: r.paired("text", k), lambda k: r.triples(k, "text"), lambda k: r.encode(k, "x")):
        with pytest.raises(InputError, match="Did you mean `sensor`"): ask("senser")

# ---- views, select

def test_views_serve_the_right_rows():
    r = MultimodalRecords({"a": [0., 1, 2, None, 4], "b": [[5., 5], None, [7, 7], [8, 8], [9, 8]]}, label=[0, 1, None, 1, 0])
    x, y = r.labelled("a"); assert x.ravel().tolist() == [0, 1, 4] and y.tolist() == [0, 1, 0]
    x_a, x_b = r.paired("a", "b"); assert x_a.ravel().tolist() == [0, 2, 4] and x_b[:, 0].tolist() == [5, 7, 9]
    with pytest.raises(InputError, match="same `label`"): r.triples("a", "b")

def test_select_keeps_codes_order_and_refuses_strangers():
    r = small(); s = r.select(["u", "p"])
    assert s.ids.tolist() == ["u", "p"] and s.codes.tolist() == [1, 0] and s.classes == r.classes and s.groups["shop"].tolist() == ["v", "u"]
    assert r.select(r.codes == 1).select(["u"]).label.tolist() == ["y"]
    for bad, words in (([], "No record"), (["p", "p"], "twice"), (["z"], "no record with id 'z'"), (np.ones(3, bool), "mask has shape"), ([0, 1], "no record with id '0'")):
        with pytest.raises(InputError, match=words): r.select(bad)

def test_with_features_gives_text_its_numbers():
    r = small().with_features({"text": np.r_[np.arange(10.), np.nan, np.nan].reshape(6, 2)})
    assert r.numeric("text").shape == (6, 2) and r.present("text").tolist() == [True]*5+[False] and r.modalities["text"][5] == "f"

def test_better_features_bring_cells_back():
    r = small().with_features({"text": np.r_[np.arange(5.), np.nan]}); assert not r.present("text")[5]
    r = r.with_features({"text": np.arange(6.)}); assert r.present("text").all() and r.with_features({"extra": np.arange(6.)}).names == ("image", "sensor", "text", "extra")

def test_encode_goes_through_the_encoders():
    pytest.importorskip("mmkit.data.encoders")
    r = small(modalities={"image": [np.full((8, 8, 3), 30*i, np.uint8) if i else None for i in range(6)]}).encode("image", "pixels8")
    assert r.features["image"].shape == (6, 192) and np.isnan(r.features["image"][0]).all()

# ---- fingerprint

def test_fingerprint_ignores_order_and_origin():
    r = small(); kw = dict(label=r.label, ids=r.ids, groups=r.groups, source="elsewhere", licence="CC0")
    assert MultimodalRecords(dict(reversed(r.modalities.items())), **kw).fingerprint == r.fingerprint and len(r.fingerprint) >= 16

def test_fingerprint_is_the_same_in_another_process():
    code = "from mmkit.data.records import MultimodalRecords as R; print(R({'t': ['a', None, 'c'], 'x': [1., 2., None]}, label=['u', None, 'v']).fingerprint)"
    once = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": s, "PATH": ""}).stdout for s in "12"]
    assert once[0] == once[1] != ""

EDITS = {"image": lambda m: m["image"].__setitem__((5, 0, 0, 0), m["image"][5, 0, 0, 0] ^ 1), "sensor": lambda m: m["sensor"].__setitem__((0, 0), 1e-9), "text": lambda m: m["text"].__setitem__(3, "D"),
         "empty text": lambda m: m["text"].__setitem__(3, None), "moved": lambda m: m["text"].__setitem__(slice(0, 2), ["ab", ""])}
@pytest.mark.parametrize("edit", EDITS)
def test_fingerprint_changes_with_one_cell(edit):
    m = {"image": np.zeros((6, 2, 2, 3), np.uint8), "sensor": np.arange(12.).reshape(6, 2), "text": list("abcdef")}; before = small(modalities=m).fingerprint
    EDITS[edit](m); assert small(modalities=m).fingerprint != before

def test_fingerprint_sees_every_part():
    r = small(); changed = [small(label=["x", "y", "x", None, "y", "x"]), small(label=["x", "y", "x", "x", "y", "y"]), small(ids=list("pqrstv")), small(groups={"shop": list("uuvvuu")}), small(groups={}),
                            small(cells={"text": np.arange(6) > 0}), r.with_features({"text": np.arange(6.)}), r.select(r.ids[::-1])]
    for c in changed: object.__setattr__(c, "modalities", {**c.modalities, "image": r.modalities["image"]}) if len(c) == 6 and (c.ids == r.ids).all() else None
    assert len({r.fingerprint, *(c.fingerprint for c in changed)}) == 9

@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=6), st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=6))
def test_fingerprint_of_text_is_injective(a, b):
    prints = []
    for t in (a, b):
        if all(v is None for v in t): return
        with warnings.catch_warnings(): warnings.simplefilter("ignore"); prints.append(MultimodalRecords({"t": t}).fingerprint)
    assert (prints[0] == prints[1]) == (a == b)

# ---- quality and faces

def test_quality_counts():
    x = RNG.normal(size=(200, 12)); x[7] = x[3]; x[9] = x[5]*1.0001; x[11] = np.nan
    t = [f"A text, number {i}." for i in range(200)]; t[7] = t[3]; t[20] = "a TEXT number 21"; t[30] = None
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); q = MultimodalRecords({"x": x, "t": t}, label=[None if i < 50 else i % 2*(i > 60) for i in range(200)]).quality()
    assert q.duplicates == {"x": 1, "t": 1} and q.near == {"x": 2, "t": 1} and q.together.tolist() == [[199, 198, 150], [198, 199, 150], [150, 150, 150]]
    assert q.balance == {"0": 80, "1": 70} and q.smallest_class == 70 and q.copies == 1 and q.gates["least_together"] == 198 and q.leaks == ()
    back = from_plain(to_plain(q)); assert isinstance(back, Quality) and back.balance == q.balance and (back.together == q.together).all()
    assert q.to_frame().set_index("column").loc["x", "with_t"] == 198

def test_quality_names_leaks_and_survives_the_smallest_data():
    with pytest.warns(WeakInputWarning): q = MultimodalRecords({"m": Y}, label=Y).quality()
    assert q.leaks == ("m",) and q.gates["leaks"] == 1 and "leaked" in repr(q)
    q = MultimodalRecords({"m": [3.]}).quality(); assert q.n == 1 and q.gates["labelled"] == 0 and "no label" in repr(q)

def test_near_duplicates_are_sampled_when_many():
    from mmkit.data.records import _near
    x = np.random.default_rng(0).normal(size=(3000, 16)); x[1500:] = x[:1500]*(1+1e-6)
    near, looked = _near(x, work=2e7); assert looked == 416 and near == 416
    assert _near(np.random.default_rng(0).normal(size=(500, 3))) == (0, 0)   # too few columns to ask

def test_html_shows_user_text_as_text():
    evil = "<script>alert(1)</script>"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = MultimodalRecords({evil: [evil, "b"]}, label=[evil, "x"], groups={evil: [evil, "y"]}, source=evil, licence=evil, label_name=evil+"l")
    for page in (r._repr_html_(), r.quality()._repr_html_()): assert "<script" not in page and "&lt;script" in page
    assert "\n" not in repr(small()) and "6 records" in repr(small())

def test_travels_between_processes():
    r = small(); again = pickle.loads(pickle.dumps(r)); assert again.fingerprint == r.fingerprint and again.codes.tolist() == r.codes.tolist()

def test_import_is_light():
    code = "import sys, mmkit.data.records, mmkit.data.sources, mmkit.data.synthetic; print([m for m in ('torch', 'matplotlib', 'sklearn', 'pandas', 'ibis', 'pyarrow', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
