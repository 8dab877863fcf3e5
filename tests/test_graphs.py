"Graphs: the layouts, what is refused and where, links that contradict each other, and emoji graphs that do not give the answer away."
import gzip, pickle, time
import numpy as np, pandas as pd, pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.entities.graphs import GraphPair, MultimodalGraph, emoji_graphs, read_dbp15k, read_links

PICTURE = np.zeros((4, 4, 3), np.uint8)

@pytest.fixture
def folder(tmp_path):
    d = tmp_path/"g"; d.mkdir(); (d/"entities.tsv").write_text("id\tname\na\tカップ\nb\t\nc\t\"quoted\n"); (d/"triples.tsv").write_text("head\trelation\ttail\na\ton\tb\nb\ton\tb\nb\tnear\ta\n")
    (d/"attributes.tsv").write_text("id\tattribute\tvalue\na\tcolour\tred\nb\tcolour\t\n"); np.savez(d/"images.npz", ids=np.array(["c", "a"]), images=np.stack([PICTURE+9, PICTURE+1])); return d

# ---- layouts

def test_a_folder(folder):
    g = MultimodalGraph.from_folder(folder); assert g.names.tolist() == ["カップ", None, '"quoted'] and g.relations == ("near", "on") and g.triples.tolist() == [[0, 1, 1], [1, 1, 1], [1, 0, 0]]
    assert g.values.tolist() == ["red", None] and g.has_image.tolist() == [True, False, True] and [int(g.images[i].max()) for i in range(3)] == [1, 0, 9] and g.modalities == ("name", "image", "relation", "attribute")

def test_every_file_but_the_first_is_optional(folder):
    full = MultimodalGraph.from_folder(folder).fingerprint
    for name in ("images.npz", "attributes.tsv", "triples.tsv"): (folder/name).unlink(); assert MultimodalGraph.from_folder(folder).fingerprint != full
    assert MultimodalGraph.from_folder(folder).modalities == ("name",); (folder/"entities.tsv").unlink()
    with pytest.raises(InputError, match="no entities.tsv"): MultimodalGraph.from_folder(folder)

def test_parquet_gzip_crlf_and_memory_are_the_same_graph(folder):
    first = MultimodalGraph.from_folder(folder); frames = {k: pd.read_csv(folder/f"{k}.tsv", sep="\t", quoting=3) for k in ("entities", "triples", "attributes")}
    held = MultimodalGraph(frames["entities"].id.tolist(), frames["entities"].name.tolist(), frames["triples"], frames["attributes"], {"a": PICTURE+1, "c": PICTURE+9}); assert held.fingerprint == first.fingerprint
    text = (folder/"triples.tsv").read_bytes(); (folder/"triples.tsv").write_bytes(b"\xef\xbb\xbf"+text.replace(b"\n", b"\r\n")); assert MultimodalGraph.from_folder(folder).fingerprint == first.fingerprint
    (folder/"triples.tsv").unlink(); (folder/"triples.tsv.gz").write_bytes(gzip.compress(text)); assert MultimodalGraph.from_folder(folder).fingerprint == first.fingerprint
    (folder/"triples.tsv.gz").unlink()
    for k, f in frames.items(): f.to_parquet(folder/f"{k}.parquet"); (folder/f"{k}.tsv").unlink(missing_ok=True)
    assert MultimodalGraph.from_folder(folder).fingerprint == first.fingerprint

def test_image_features_in_place_of_images(folder):
    np.savez(folder/"images.npz", ids=np.array(["b"]), features=np.ones((1, 5))); g = MultimodalGraph.from_folder(folder)
    assert g.images is None and g.present("image").tolist() == [False]*3 or g.features["image"].shape == (3, 5) and np.isnan(g.features["image"][[0, 2]]).all()

def test_empty_cells_of_pandas():
    f = pd.DataFrame({"id": ["a", "b"], "attribute": ["k", "k"], "value": pd.array(["v", pd.NA], dtype="string")}); assert MultimodalGraph(["a", "b"], [pd.NA, np.nan], attributes=f).values.tolist() == ["v", None]

def test_numbers_that_lost_their_type(): assert MultimodalGraph([1, 2, 3], triples=pd.DataFrame({"head": [1., 2.], "relation": ["r", "r"], "tail": [2., 3.]})).triples[:, 2].tolist() == [1, 2]

def write_dbp(d, **changes):
    parts = {"ent_ids_1": "0\thttp://x/resource/A_b\n1\thttp://x/resource/C\n", "ent_ids_2": "5\thttp://y/resource/D\n6\tE\n", "triples_1": "0\t1\t1\n1\t1\t1\n", "triples_2": "5\t9\t6\n", "ref_ent_ids": "0\t5\n", "sup_ent_ids": "1\t6\n"} | changes
    d.mkdir(exist_ok=True)
    for k, v in parts.items():
        if v is not None: (d/k).write_text(v)
    return d

def test_dbp15k(tmp_path):
    p = read_dbp15k(write_dbp(tmp_path/"d")); assert p.links.tolist() == [[0, 0], [1, 1]] and p.graph_a.names.tolist() == ["A b", "C"] and "and names" in p.difficulty
    q = read_dbp15k(write_dbp(tmp_path/"e", sup_ent_ids=None), names=False); assert len(q.links) == 1 and "name" not in q.graph_a.modalities and "only" in q.difficulty
    for k, v, says in (("triples_1", "0\t1\t7\n", "line 1 of triples_1"), ("triples_2", "5\t9\n", "2 cells"), ("ref_ent_ids", "0\t5\n0\t6\n", "linked twice"), ("ent_ids_1", "0\tA\n0\tB\n", "comes twice"), ("ref_ent_ids", "5\t0\n", "Swap|no entity")):
        with pytest.raises(InputError, match=says): read_dbp15k(write_dbp(tmp_path/"f", sup_ent_ids="", **{k: v}))
    with pytest.raises(InputError, match="no `ent_ids_1`"): read_dbp15k(tmp_path)

# ---- refused, with the place

@pytest.mark.parametrize("name, content, says", [("triples.tsv", "head\trelation\ttail\na\ton\tz\n", "'z'.*line 2 of triples.tsv"), ("triples.tsv", "head\ttail\na\tb\n", "no column `relation`"), ("triples.tsv", "", "no column `head`"),
    ("triples.tsv", "head\trelation\ttail\na\t\tb\n", "`relation` is empty in line 2"), ("triples.tsv", "head\trelation\ttail\n\n\na\ton\tb\textra\n", "Line 4 .*4 cells"), ("entities.tsv", "id\tname\na\tx\na\ty\n", "'a' comes twice .line 2 of entities.tsv, line 3"),
    ("entities.tsv", "id\tname\n\tx\n", "id is empty in line 2"), ("entities.tsv", "id\tname\n", "no entities"), ("entities.tsv", b"id\tname\na\t\xff\xfe\n", "UTF-8"), ("attributes.tsv", "id\tattribute\tvalue\nq\tx\ty\n", "`id` is 'q'"),
    ("entities.parquet", b"no", None), ("images.npz", b"no", "NPZ"), ("triples.tsv", "head\trelation\ttail\na\t"+"x"*200_000+"\tb\n", "cannot be read")])
def test_bad_files_are_named(folder, name, content, says):
    (folder/name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if says is None: assert len(MultimodalGraph.from_folder(folder)) == 3; return  # TSV comes first
    with pytest.raises(InputError, match=says) as e: MultimodalGraph.from_folder(folder)
    assert str(folder) not in str(e.value)

class Evil:
    def __reduce__(self): return (pytest.fail, ("a pickle was opened",))

@pytest.mark.parametrize("arrays, says", [(dict(ids=np.array(["z"]), images=PICTURE[None]), "'z'"), (dict(ids=np.array(["a", "a"]), images=np.stack([PICTURE]*2)), "two pictures of 'a'"), (dict(images=PICTURE[None]), "must hold"),
    (dict(ids=np.array(["a"]), images=np.stack([PICTURE]*2)), "must hold"), (dict(ids=np.array(["a"]), images=PICTURE[None].astype(float)), "uint8"), (dict(ids=np.array(["a"]), features=np.array([["x"]])), "numbers"), (dict(ids=np.array([Evil()], dtype=object), images=PICTURE[None]), "plain arrays")])
def test_bad_pictures(folder, arrays, says):
    np.savez(folder/"images.npz", **arrays)
    with pytest.raises(InputError, match=says): MultimodalGraph.from_folder(folder)

def test_a_pickle_is_never_opened(folder):
    (folder/"images.npz").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="NPZ"): MultimodalGraph.from_folder(folder)

@pytest.mark.parametrize("kw, says", [(dict(ids=[]), "no entities"), (dict(ids="ab"), "`ids` is a str"), (dict(ids=["a", None]), "row 1"), (dict(names=["x"]), "`names`"), (dict(triples=[("a", "r")]), "row 0"), (dict(triples="x"), "table"), (dict(images=[None]), "1 entries"),
    (dict(images={"q": PICTURE}), "'q'"), (dict(images=[PICTURE, np.zeros((5, 4, 3), np.uint8)]), "entity 1"), (dict(features=[1]), "dict"), (dict(features={"v": [[1, 2]]}), "shape"), (dict(features={"v": [[1, np.nan], [0, 0]]}), "partly NaN"), (dict(features={"v": [["x"], ["y"]]}), "numbers")])
def test_bad_arguments(kw, says):
    with pytest.raises(InputError, match=says): MultimodalGraph(**dict(ids=["a", "b"]) | kw)

def test_an_empty_modality_is_said_and_left_out():
    with pytest.warns(WeakInputWarning, match="no picture"): assert MultimodalGraph(["a", "b"], images=[None, None]).modalities == ()
    with pytest.warns(WeakInputWarning, match="missing for every"): assert MultimodalGraph(["a"], features={"v": [[np.nan]]}).features == {}

def test_cycles_and_self_relations_are_counted_not_refused():
    g = MultimodalGraph(["a", "b", "<b>"], names=["x", "<script>", "x"], triples=[("a", "r", "b"), ("b", "r", "a"), ("a", "r", "a"), ("a", "r", "a")]); q = g.quality()
    assert q.oddities["relations to itself"] == 2 and q.oddities["repeated triples"] == 1 and q.oddities["names shared with another entity"] == 1 and q.coverage["relation"] == 2 and "<script>" not in g._repr_html_() and len(q.to_frame()) == 10

# ---- links

A, B = MultimodalGraph(["a1", "a2", "a3"]), MultimodalGraph(["b1", "b2", "b3"])

def test_links_from_frame_tuples_tsv_and_parquet(tmp_path):
    frame = pd.DataFrame({"a": ["a1", "a3"], "b": ["b2", "b1"], "note": ["", "x"]}); frame.to_csv(tmp_path/"l.tsv", sep="\t", index=False); frame.to_parquet(tmp_path/"l.parquet")
    for links in (frame, [("a1", "b2"), ("a3", "b1")], tmp_path/"l.tsv", str(tmp_path/"l.parquet")): assert read_links(links, A, B).tolist() == [[0, 1], [2, 0]]
    assert read_links([], A, B).shape == (0, 2)

@pytest.mark.parametrize("links, says", [([("a1", "b1"), ("a1", "b2")], "'a1' is linked twice"), ([("a1", "b1"), ("a2", "b1")], "'b1' is linked twice"), ([("a1", "b9")], "'b9'.*second graph"), ([("b1", "a1")], "Swap"), ([("a1", None)], "`b` is empty"), (3, "table"), ("none.tsv", "not a .tsv")])
def test_bad_links(links, says):
    with pytest.raises(InputError, match=says): read_links(links, A, B)

def test_a_repeated_link_counts_once():
    with pytest.warns(WeakInputWarning, match="1 links"): assert read_links([("a1", "b1"), ("a1", "b1")], A, B).tolist() == [[0, 0]]

def test_selecting():
    g = MultimodalGraph(["a", "b", "c"], ["x", "y", None], [("a", "r", "b"), ("b", "s", "c")], [("c", "k", "v")], {"b": PICTURE+3}, features={"v": [[1], [np.nan], [2]]}); s = g.select(["c", "b"])
    assert s.triples.tolist() == [[1, 0, 0]] and s.relations == ("s",) and s.has_image.tolist() == [False, True] and s.values.tolist() == ["v"] and s.features["v"][0] == 2 and g.select(np.ones(3, bool)).fingerprint == g.fingerprint
    for bad in (["q"], np.ones(2, bool), []):
        with pytest.raises(InputError): g.select(bad)
    with pytest.raises(ValueError): g.images[0] = 1

# ---- emoji

@pytest.fixture(scope="module")
def emoji(): return emoji_graphs(dangling=.14, images_missing=.15, seed=3)

def test_emoji_numbers(emoji):
    n = len(emoji.graph_a); assert n == len(emoji.graph_b) and abs(1-len(emoji.links)/n-.14) < .001 and "14% dangling" in emoji.difficulty and "weak text" in emoji.difficulty
    for g in (emoji.graph_a, emoji.graph_b): assert abs(g.has_image.mean()-.85) < .03 and g.modalities == ("name", "text", "image", "relation")

def test_links_are_the_same_emoji():
    from mmkit.data.bundled import emoji_words
    p = emoji_graphs(rows=400, dangling=.1); en, ja = ({v[0]: k for k, v in emoji_words(l).items()} for l in ("en", "ja"))
    a, b = [en[v] for v in p.graph_a.names], [ja[v] for v in p.graph_b.names]; assert all(a[i] == b[j] for i, j in p.links) and len(set(a) & set(b)) == len(p.links)

def test_order_and_ids_say_nothing(emoji):
    a, b = emoji.links.T; assert abs(np.corrcoef(a, b)[0, 1]) < .1 and not any(t in str(emoji.graph_a.ids[0]) for t in ("e0", "1f"))
    none = emoji_graphs("none", rows=300); shared = set(none.graph_a.relations) & set(none.graph_b.relations); assert shared and none.graph_a.names[0] is None and none.graph_a.text[0] is None and all(r[1:].isdigit() for r in none.graph_a.relations)

def test_related_emoji_share_the_keyword(emoji):
    g = emoji.graph_b; keys = [set(t.split(", ")) for t in g.text]
    for h, r, t in g.triples[::997]: assert h != t and g.relations[r] in ", ".join(keys[h]) and g.relations[r] in ", ".join(keys[t])

def test_same_seed_same_graphs_and_seeds(emoji):
    again, other = emoji_graphs(dangling=.14, images_missing=.15, seed=3), emoji_graphs(dangling=.14, images_missing=.15, seed=4)
    assert again.graph_b.fingerprint == emoji.graph_b.fingerprint != other.graph_b.fingerprint and (again.links == emoji.links).all()
    seeds, rest = emoji.seeds(.2, 1); assert len(seeds)+len(rest) == len(emoji.links) and not set(seeds.a) & set(rest.a) and seeds.equals(again.seeds(.2, 1)[0]) and not seeds.equals(emoji.seeds(.2, 2)[0])
    assert read_links(seeds, emoji.graph_a, emoji.graph_b).shape == (round(.2*len(emoji.links)), 2) and isinstance(emoji, GraphPair)

@pytest.mark.parametrize("kw", [dict(text="easy"), dict(dangling=1), dict(dangling=-.1), dict(images_missing=2), dict(rows=1), dict(rows=9999), dict(seed=-1), dict(seed=.5)])
def test_bad_options(kw):
    with pytest.raises(InputError): emoji_graphs(**kw)

@pytest.mark.filterwarnings("ignore::mmkit.checks.WeakInputWarning")
def test_all_pictures_missing(): assert "image" not in emoji_graphs(rows=50, images_missing=1).graph_a.modalities

def test_twenty_thousand_entities_are_quick():
    start = time.process_time(); n = 20_000; rng = np.random.default_rng(0); ids = [f"e{i}" for i in range(n)]
    g = MultimodalGraph(ids, triples=[(ids[h], f"r{r}", ids[t]) for h, r, t in zip(rng.integers(n, size=60_000), rng.integers(50, size=60_000), rng.integers(n, size=60_000))]); g.quality(); g.fingerprint
    assert time.process_time()-start < 3
