"Ordered records: nothing but content tells the order, files are read or refused in words, the bundled lists, the synthetic world."
import base64, csv, gzip, io, json, sys, warnings
import numpy as np
import pytest
from conftest import ROOT
from mmkit.checks import InputError, WeakInputWarning
from mmkit.coherence.sequences import OrderedRecords, help_steps, read_recipes, shared_data, synthetic_orders, twins

def lists(n=300, size=5): return [[f"r{r} e{i}" for i in range(size)] for r in range(n)]
def rank_of(side, r): return side.rank[side.rows(r)]
def pairs_right(ranks, guess): return np.mean([np.triu((np.subtract.outer(g, g) < 0) == (np.subtract.outer(x, x) < 0), 1).sum()/(len(x)*(len(x)-1)/2) for x, g in zip(ranks, guess)])

# nothing but content tells the order

def test_the_number_of_an_element_says_nothing_about_its_place():
    r = OrderedRecords(lists(), lists()); numbers = [np.arange(5)]*300
    for side in (r.a, r.b): assert abs(pairs_right([rank_of(side, k) for k in range(300)], numbers)-.5) < .04
    assert abs(pairs_right([rank_of(r.a, k) for k in range(300)], [rank_of(r.b, k) for k in range(300)])-.5) < .04  # nor does the number in the other modality

def test_every_place_is_equally_likely():
    r = OrderedRecords(lists(2000, 4)); counts = np.zeros((4, 4)); np.add.at(counts, (r.a.rank, np.tile(np.arange(4), 2000)), 1)
    assert abs(counts/2000-.25).max() < .05

def test_an_unrelated_partner_cannot_help_even_when_it_is_linked_by_number():
    r = OrderedRecords(lists(400), lists(400)).unrelated_partner(); vote = [np.sign(np.subtract.outer(rank_of(r.b, k), rank_of(r.b, k))) for k in range(400)]
    right = [(v < 0)[np.triu_indices(5, 1)] == (np.subtract.outer(x, x) < 0)[np.triu_indices(5, 1)] for v, x in zip(vote, (rank_of(r.a, k) for k in range(400)))]
    assert abs(np.mean(right)-.5) < .03

def test_seed_moves_the_elements_and_nothing_else():
    one, two, again = (OrderedRecords(lists(40), lists(40), seed=s) for s in (0, 1, 0))
    assert one.fingerprint == two.fingerprint and list(one.a.text) == list(again.a.text) != list(two.a.text)
    assert [sorted(zip(rank_of(s.a, 3), s.a.text[s.a.rows(3)])) for s in (one, two)] == [[(i, f"r3 e{i}") for i in range(5)]]*2

@pytest.mark.parametrize("change", [dict(ids=["x", "y"]), dict(groups=["g", "g"]), dict(a=[["1", "2"], ["4", "3"]]), dict(a=[["1", "2"], ["3", "5"]]), dict(ordered=False), dict(names=("p", "q")), dict(pairing="soft")])
def test_fingerprint_sees_every_change(change):
    base = dict(a=[["1", "2"], ["3", "4"]], b=[["5", "8"], ["6", "7"]]); assert OrderedRecords(**base).fingerprint != OrderedRecords(**base | change).fingerprint

def test_handles_are_for_showing_only():
    named = lambda prefix: OrderedRecords([[{"text": t, "handle": f"{prefix}{i}"} for i, t in enumerate("abc")]])
    assert named("x").fingerprint == named("y").fingerprint; seen = []
    named("secret").encode("a", lambda cells: (seen.extend(cells), np.zeros((len(cells), 1)))[1]); assert sorted(seen) == ["a", "b", "c"]

def test_arrays_cannot_be_changed():
    r = help_steps(rows=5)
    for x in (r.a.rank, r.a.text, r.links[0], r.ids, r.groups):
        with pytest.raises(ValueError): x[0] = x[-1]

# parts

def test_select_keeps_the_shuffle_and_the_links():
    r = help_steps(rows=20); s = r.select([7, 3, -1])
    for k, at in enumerate((7, 3, 19)): assert list(s.b.text[s.b.rows(k)]) == list(r.b.text[r.b.rows(at)]) and (s.links[k] == r.links[at]).all() and s.ids[k] == r.ids[at]
    assert s.select(np.array([True, False, False])).ids[0] == r.ids[7]
    for wrong in ([20], [], np.array([True])):
        with pytest.raises(InputError): r.select(wrong)

@pytest.mark.parametrize("seed", range(5))
def test_split_never_parts_a_group_and_is_even(seed):
    r = help_steps(); sizes = []
    for train, test in r.split(5, seed): sizes.append(len(test)); assert not set(r.groups[train]) & set(r.groups[test]) and len(train)+len(test) == 144
    assert max(sizes)-min(sizes) <= 2

def test_features_stay_with_their_element():
    r = OrderedRecords(lists(30)).encode("a", lambda cells: np.array([[int(c.split("e")[1])] for c in cells]), name="truth"); assert (r.a.features["truth"][:, 0] == r.a.rank).all()
    s = r.select([4, 2]); assert (s.a.features["truth"][:, 0] == s.a.rank).all()
    for x in (np.zeros((3, 2)), np.full((150, 2), np.inf), np.array([[np.nan, 1.]]*150)):
        with pytest.raises(InputError): r.with_features("a", "x", x)

# bad input

@pytest.mark.parametrize("given, words", [(dict(a="text"), "`a` is a str"), (dict(a=[]), "no records"), (dict(a=[[]]), "has no elements"), (dict(a=["ab"]), "Record 'r0000' of `a` is a str"), (dict(a=[[3]]), "features `given`"),
    (dict(a=[[{"text": 3}]]), "text of type int"), (dict(a=[[{"text": "a", "position": float("nan")}, {"text": "b", "position": 1}]]), "a position for 1 of 2"), (dict(a=[[{"text": "a", "position": True}]]), "has the position True"),
    (dict(a=[[np.zeros((4, 4), np.uint8)]]), "picture of shape"), (dict(a=[[np.zeros(2), np.zeros(3)]]), "2 and 3 numbers"), (dict(a=[["a"]], ids=["x", "y"]), "2 entries"), (dict(a=[["a"], ["b"]], ids=["x", "x"]), "comes twice"),
    (dict(a=[["a"]], names=("x", "x")), "two different words"), (dict(a=[["a"]], pairing="soft"), "no second modality"), (dict(a=[["a"]], b=[["b"]], pairing="hard"), "not known"), (dict(a=[["a"]], seed=-1), "seed"), (dict(a=[["a"]], groups=["g", "h"]), "`groups`")])
def test_refused_in_words(given, words):
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); pytest.raises(InputError, OrderedRecords, **given).match(words)

def test_weak_records_are_kept_with_a_warning():
    with pytest.warns(WeakInputWarning, match="nothing to order"): assert len(OrderedRecords([["one"], ["two", "three"]])) == 2
    with pytest.warns(WeakInputWarning, match="more than once"): OrderedRecords([["a", "a", "b"]])
    with pytest.warns(WeakInputWarning, match="neither text nor picture"): r = OrderedRecords([["a", None, None]])
    assert len(set(twins(r.a, 0))) == 3  # two that are missing are not copies

def test_unequal_partners_and_missing_pictures():
    p = np.zeros((2, 2, 3), np.uint8)
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); r = OrderedRecords([[{"text": "a", "key": 1}, {"text": "b", "key": 2}], ["c", "d"]], [[{"image": p, "key": 2}, {"image": None, "key": 9}, {"image": p}], []])
    assert sorted(r.links[0]) == [-1, *sorted(l for l in r.links[0] if l >= 0)] and (r.links[1] == -1).all() and r.b.sizes.tolist() == [3, 0]
    assert r.quality().coverage["b: picture"] == pytest.approx(2/3) and r.quality().oddities["records of unequal lengths"] == 2

# files

def jsonl(tmp_path, *records, name="x.jsonl"):
    text = "\n".join(json.dumps(r) for r in records); (tmp_path/name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode()); return tmp_path/name

def png(v): from PIL import Image; f = io.BytesIO(); Image.fromarray(np.full((6, 9, 3), v, np.uint8)).save(f, "PNG"); return base64.b64encode(f.getvalue()).decode()

def test_storybook_layout(tmp_path):
    book = dict(id="b1", group="g", steps=[dict(position=i, text=f"page {i}", image_file="medium/1.jpg", thumb_jpeg_b64=png(60*i)) for i in range(4)]); path = jsonl(tmp_path, book, dict(book, id="b2"), name="books.jsonl.gz")
    r = OrderedRecords.from_jsonl(path, "steps.text", "steps.thumb_jpeg_b64", side=16); assert r.pairing == "linked" and list(r.groups) == ["g", "g"] and r.a.images[0] is None and r.b.text[0] is None
    for k in (0, 1):
        for i, j in enumerate(r.links[k]): assert r.b.images[r.b.rows(k)][j].max(initial=0, where=r.b.images[r.b.rows(k)][j] < 255) == 60*int(r.a.text[r.a.rows(k)][i][-1])
    both = OrderedRecords.from_jsonl(path, "steps"); assert both.a.text[0] and both.a.images[0].shape == (64, 64, 3)

@pytest.mark.parametrize("record, words", [({"id": 1}, "no list `steps`"), ([1], "one record in braces"), ({"steps": [3]}, "is a int"), ({"steps": [{"text": "a", "thumb_b64": "!!"}]}, "cannot be read"), ({"steps": [{"text": "a", "image": "../x.png"}]}, "outside its folder"),
    ({"steps": [{"text": "a", "image": "gone.png"}]}, "cannot be read"), ({"steps": [{"text": "a", "position": "one"}]}, "has the position 'one'")])
def test_a_bad_line_is_named(tmp_path, record, words):
    with pytest.raises(InputError, match=words): OrderedRecords.from_jsonl(jsonl(tmp_path, record))

def test_bad_files(tmp_path):
    for name, content in (("empty.jsonl", b""), ("latin.jsonl", b"\xff\xfe{"), ("cut.jsonl.gz", gzip.compress(b"{}"*99)[:-9])):
        (tmp_path/name).write_bytes(content); pytest.raises(InputError, OrderedRecords.from_jsonl, tmp_path/name)
    for read in (OrderedRecords.from_jsonl, OrderedRecords.from_csv, OrderedRecords.from_folder): pytest.raises(InputError, read, tmp_path/"absent")

def test_folder(tmp_path):
    for r in ("one", "two"):
        (tmp_path/r).mkdir(); [(tmp_path/r/f"v2_{i}{'ab' if i == 2 else ' '}.txt".replace(" ", "")).write_text(f"{r} {i}") for i in (10, 9, 2)]
    (tmp_path/"one"/"v2_2b.txt").write_text("one 2 again"); r = OrderedRecords.from_folder(tmp_path)
    assert [t for _, t in sorted(zip(rank_of(r.a, 1), r.a.text[r.a.rows(1)]))] == ["two 2", "two 9", "two 10"] and sorted(rank_of(r.a, 0)) == [0, 0, 1, 2]  # numbers, not letters; a tie
    assert r.b is None and not r.a.features and all(h.endswith(".txt") for h in r.a.handles)
    (tmp_path/"one"/"7.png").write_bytes(b"no picture"); pytest.raises(InputError, OrderedRecords.from_folder, tmp_path).match("one/7.png")

def test_csv(tmp_path):
    def write(*rows): f = open(tmp_path/"x.csv", "w", newline="", encoding="utf-8"); csv.writer(f).writerows(rows); f.close(); return tmp_path/"x.csv"
    r = OrderedRecords.from_csv(write(("record", "position", "text", "side", "key", "g"), ("r", 2, "b, c", "step", "x", 1), ("r", 1, "a", "step", "", 1), ("r", 1, "bolt", "part", "x", 1), ("r", 2, "nut", "part", "", 1)), modality="side", key="key", group="g")
    assert r.pairing == "linked" and r.links[0][list(r.a.text).index("b, c")] == list(r.b.text).index("bolt") and r.names == ("step", "part")
    for rows, words in (((("record", "position", "text"), ("r", "x", "a")), "a number was expected"), ((("record", "position", "text"), ("r", 1)), "another number of cells"), ((("record", "text"), ("r", "a")), "no column `position`"), ((("record", "position", "text"),), "no rows")):
        with pytest.raises(InputError, match=words): OrderedRecords.from_csv(write(*rows))

# bundled and shared data

def test_the_archive_says_where_it_comes_from():
    about = json.loads((ROOT/"mmkit/data/archives/help_steps.json").read_text()); notice = (ROOT/"mmkit/data/archives"/about["notice"]).read_text()
    assert (about["rows"], about["steps"], about["groups"]) == (144, 736, 106) and "Mozilla Public License" in notice and "help_steps.texts.json.xz" in notice and about["files"]["help_steps.texts.json.xz"]["bytes"] < 50_000

def test_the_script_reads_lists_and_knows_relatives():
    sys.path.insert(0, str(ROOT/"scripts")); import build_help_steps as b
    page = '<ol><li><p>Press <span hidden="true" class="MAC">Command</span><span hidden="true">Ctrl</span>+C.</p></li><li>Do<ul><li>this</li></ul></li></ol><ul><li>no</li></ul>'
    assert b.lists(page) == [["Press Ctrl+C.", "Do this"]]
    both = {"en": {"p": "<ol>"+"".join(f"<li>step {i}</li>" for i in range(4))+"</ol>"}, "ja": {"p": "<ol>"+"".join(f"<li>手順{i}</li>" for i in range(4))+"</ol>"}}
    assert len(b.chosen(both)) == 1 and not b.chosen({"en": both["en"], "ja": both["en"]}) and not b.chosen({"en": {"p": both["en"]["p"].replace("3", "2")}, "ja": both["ja"]})
    a, c = dict(page="p", en=["one two", "three"], ja=["x", "y"]), dict(page="q", en=["six", "seven"], ja=["x", "y"]); assert b.related(a, c) and not b.related(a, dict(c, ja=["z", "y"])) and b.related(a, dict(c, ja=["z", "w"], page="p"))
    assert [r["group"] for r in b.grouped([a, dict(c, ja=["z", "w"]), c])] == ["g000", "g000", "g000"] and [r["group"] for r in b.grouped([a, dict(c, ja=["z", "w"], en=["q", "r"])])] == ["g000", "g001"]

def test_japanese_is_japanese(): r = help_steps("ja"); assert all(any("\u3040" <= c <= "\u9fff" for c in t) for t in r.a.text)
def test_wrong_language():
    for wrong in ("fr", ("en", "en"), ()): pytest.raises(InputError, help_steps, wrong)

@pytest.mark.skipif(shared_data("recipes/recipes.jsonl") is None, reason="MMKIT_SHARED_DATA names no folder with recipes")
def test_recipes():
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); r = read_recipes()
    assert len(r) == 257 and len(r.a.text) == 2029 and r.a.labelled.all() and r.pairing == "none"

# the synthetic world

def test_knobs_do_what_they_say():
    flat = lambda w, k: np.concatenate([m[np.triu_indices(len(m), 1)] for m in (w.log_odds_a, w.log_odds_b)[k]]); size = lambda w, k: np.array([np.abs(m[np.triu_indices(len(m), 1)]).mean() for m in (w.log_odds_a, w.log_odds_b)[k]])
    base = synthetic_orders(600, seed=1); assert abs((size(base, 0) < .5).mean()-.3) < .06 and (size(synthetic_orders(600, overconfident=True, seed=1), 0) < .5).mean() < .02
    assert all(np.allclose(m, -m.T) for m in base.log_odds_a) and np.abs(flat(synthetic_orders(300, slope=(2.4, .8), seed=1), 0)).mean() > 1.5*np.abs(flat(base, 0)).mean()
    lengths = synthetic_orders(200, (3, 8), seed=1).records.a.sizes; assert (lengths.min(), lengths.max()) == (3, 8)
    for wrong in (dict(alignment=1.2), dict(lengths=(5, 3)), dict(cueless=-1), dict(n_records=0), dict(dims=1)): pytest.raises(InputError, synthetic_orders, **wrong)

def test_shared_error_is_shared():
    def noise(w): # correlation of what the two modalities get wrong, along the true links
        x = [[m.mean(0)-m.mean(1)-np.polyval(np.polyfit(rank_of(s, r), m.mean(0)-m.mean(1), 1), rank_of(s, r)) for r, m in enumerate(ms)] for s, ms in ((w.records.a, w.log_odds_a), (w.records.b, w.log_odds_b))]
        return np.corrcoef(np.concatenate(x[0]), np.concatenate([b[l] for b, l in zip(x[1], w.records.links)]))[0, 1]
    kw = dict(cueless=0, pair_noise=.01, seed=3); assert abs(noise(synthetic_orders(400, **kw))) < .08 and noise(synthetic_orders(400, shared_error=.9, **kw)) > .8

def test_items_show_the_time():
    w = synthetic_orders(500, noise=(.3, .3), cueless=0, seed=2); s = w.records.a; x = s.features["cue"]; axis = np.linalg.lstsq(x, s.rank-2., rcond=None)[0]; assert np.corrcoef(x @ axis, s.rank)[0, 1] > .6
