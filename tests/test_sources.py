"Hostile files and round trips of `mmkit.data.sources`."
import os, pickle, struct, warnings, zipfile, zlib
import numpy as np, pandas as pd, pyarrow as pa, pytest
from hypothesis import given, settings, strategies as st, HealthCheck
from PIL import Image
from pyarrow import feather, ipc, parquet
from mmkit.checks import InputError, WeakInputWarning
from mmkit.data.records import MultimodalRecords
from mmkit.data.sources import read, save

FRAME = pd.DataFrame({"sku": ["007", "8", "9", "10"], "text": ["a", None, "", "日本"], "s_1": [1., 2, 3, 4], "s_2": [0., 1, 0, 9], "kind": ["u", "v", None, "u"], "shop": list("aabb"), "n": [1, 2, 3, 4]})
ASK = dict(modalities={"text": "text", "sensor": "s_*"}, label="kind", groups="shop", id="sku")

@pytest.fixture
def table(tmp_path):
    (tmp_path/"t.csv").write_text('sku,text,s_1,s_2,kind,shop,n\n007,a,1.0,0.0,u,a,1\n8,,2.0,1.0,v,a,2\n9,"",3.0,0.0,,b,3\n10,日本,4.0,9.0,u,b,4\n', encoding="utf8")
    FRAME.to_parquet(tmp_path/"t.parquet"); feather.write_feather(FRAME, tmp_path/"t.feather")
    with ipc.new_stream(tmp_path/"t.arrow", (arrow := pa.Table.from_pandas(FRAME)).schema) as s: s.write_table(arrow)
    FRAME.to_csv(tmp_path/"t.tsv", sep="\t", index=False); return tmp_path

# ---- the same records from every source

def test_every_form_gives_the_same_records(table):
    import ibis
    want = read(FRAME, **ASK); assert want.ids.tolist() == ["007", "8", "9", "10"] and want.modalities["text"].tolist() == ["a", None, "", "日本"]
    sorted_ids = read(ibis.memtable(FRAME), **ASK); assert sorted_ids.ids.tolist() == sorted(want.ids) and sorted_ids.select(want.ids).fingerprint == want.fingerprint
    for name in ("t.csv", "t.parquet", "t.feather", "t.arrow"): assert read(table/name, **ASK).fingerprint == want.fingerprint, name
    assert read(str(table/"t.tsv"), {"n": "n"}).modalities["n"].tolist() == [1, 2, 3, 4] and read(table/"t.csv", **ASK).source == "t.csv"

def test_ibis_from_a_database_file(tmp_path):
    import duckdb, ibis
    frame = FRAME
    with duckdb.connect(str(tmp_path/"d.duckdb")) as c: c.execute("CREATE TABLE t AS SELECT * FROM frame")
    con = ibis.duckdb.connect(tmp_path/"d.duckdb")
    t = con.table("t"); assert len(read(t.filter(t.n > 2), {"n": "n", "text": "text"})) == 2
    with pytest.raises(InputError, match="more than 3 rows"): read(t, {"n": "n"}, limit=3)
    assert len(read(t, {"n": "n"}, limit=4)) == 4
    with pytest.raises(InputError, match="Did you mean `text`"): read(t, {"t": "txt"})
    con.disconnect()

def test_vectors_in_parquet(tmp_path):
    v = [[1., 2], None, [3, 4], [5, 7]]
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 2)):
        parquet.write_table(pa.table({"v": pa.array(v, kind), "c": pa.array(list("abca")).dictionary_encode()}), tmp_path/"v.parquet")
        r = read(tmp_path/"v.parquet", {"v": "v", "c": "c"}); assert r.present("v").tolist() == [True, False, True, True] and r.numeric("v")[3].tolist() == [5, 7] and r.modalities["c"][3] == "a"
    parquet.write_table(pa.table({"v": [[1., 2], [3.]]}), tmp_path/"v.parquet")
    with pytest.raises(InputError, match="lists of 1 to 2 numbers"): read(tmp_path/"v.parquet", {"v": "v"})
    parquet.write_table(pa.table({"v": [["a"], ["b"]]}), tmp_path/"v.parquet")
    with pytest.raises(InputError, match="vectors of numbers"): read(tmp_path/"v.parquet", {"v": "v"})

def test_numbers_of_every_kind(tmp_path):
    from decimal import Decimal
    t = pa.table({"d": [Decimal("1.5"), None, Decimal("2.25")], "b": [True, False, None], "i": pa.array([1, None, 3], pa.int16()), "when": pd.to_datetime(["2026-01-01"]*3), "raw": [b"\xff\xfe"]*3})
    r = read(t, {k: k for k in "dbi"}); assert r.numeric("d")[2, 0] == 2.25 and r.present("b").tolist() == [True, True, False] and r.numeric("i")[2, 0] == 3
    with pytest.raises(InputError, match="dates to days"): read(t, {"w": "when"})
    with pytest.raises(InputError, match="not UTF-8"): read(t, {"w": "raw"})
    with pytest.raises(InputError, match="mixes kinds"): read(pd.DataFrame({"a": [1, "x", b"y"]}, dtype=object), {"a": "a"})

# ---- refusals

@pytest.mark.parametrize("change, words", [
    (dict(modalities={"t": "txt"}), "Did you mean `text`"), (dict(label="knd"), "Did you mean `kind`"), (dict(id="sk"), "Did you mean `sku`"), (dict(groups=["shoop"]), "Did you mean `shop`"),
    (dict(modalities={"t": "x_*"}), r"no column `x_\*`"), (dict(modalities=None), "must say which columns"), (dict(modalities={"all": "*"}), "answer would stand among the questions"),
    (dict(modalities={"m": ["text", "s_1"]}), "Column `text` of modality `m` does not hold plain numbers"), (dict(modalities={"t": 3}), "column names are text"),
    (dict(modalities={"image": "text"}, pictures=("photo",)), "which is not a modality here"), (dict(modalities={"image": ["s_1", "s_2"]}, pictures=("image",)), "one column of file names"),
    (dict(modalities={"image": "n"}, pictures=("image",)), "file names were expected")])
def test_refused_requests(table, change, words):
    with pytest.raises(InputError, match=words): read(table/"t.parquet", **{**ASK, **change})

def test_not_what_the_suffix_says(table):
    for content, name in (("t.csv", "x.parquet"), ("t.parquet", "x.csv"), ("t.feather", "x.npz"), ("t.csv", "x.npz"), ("t.parquet", "x.arrow"), ("t.feather", "x.parquet")):
        (table/name).write_bytes((table/content).read_bytes())
        with pytest.raises(InputError, match="by its name, but its first bytes"): read(table/name, **ASK)
    for blob, name in ((b"", "e.csv"), (pickle.dumps({"a": 1}), "p.csv"), ("a,b\n1,2\n".encode("utf-16"), "u.csv"), (b"PK\3\4"+bytes(40), "b.npz")):
        (table/name).write_bytes(blob)
        with pytest.raises(InputError): read(table/name, {"a": "a"})
    with pytest.raises(InputError, match="cannot be read. Export it as"): (table/"x.pkl").write_bytes(b"x"); read(table/"x.pkl", **ASK)
    with pytest.raises(InputError, match="Did you mean `t.csv`"): read(table/"tt.csv", **ASK)
    with pytest.raises(InputError, match="A int cannot be read"): read(3, **ASK)

@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.arrow"])
def test_cut_off_or_scrambled_anywhere(table, name):
    whole = (table/name).read_bytes(); rng = np.random.default_rng(0)
    for cut in rng.integers(8, len(whole)-1, 25):
        (table/name).write_bytes(whole[:cut])
        with pytest.raises(InputError): read(table/name, **ASK)
    for _ in range(60):  # a flipped byte may go unnoticed in the values, but never as another kind of error
        b = bytearray(whole); b[rng.integers(8, len(b))] ^= 1 << rng.integers(8); (table/name).write_bytes(b)
        try: read(table/name, **ASK)
        except InputError: pass

def test_csv_troubles(tmp_path):
    f = tmp_path/"t.csv"
    f.write_text("a,b\n1,2\n3\n")
    with pytest.raises(InputError, match="damaged or cut off"): read(f, {"a": "a"})
    f.write_text("a,a\n1,2\n")
    with pytest.raises(InputError, match="2 columns called `a`"): read(f, {"a": "a"})
    f.write_bytes("鉢,a\n赤,1\n青,2\n".encode("cp932"))
    with pytest.raises(InputError): read(f, {"t": "鉢"})
    assert read(f, {"t": "鉢"}, encoding="cp932").modalities["t"].tolist() == ["赤", "青"]
    f.write_bytes("\ufefft;n\nx;1\ny;2\n".encode()); assert read(f, {"t": "t", "n": "n"}, delimiter=";").modalities["n"].tolist() == [1, 2]
    f.write_text('t,n\n"=cmd|calc, ""<script>""\nline two",1\n__import__(\'os\'),2\n'); r = read(f, {"t": "t", "n": "n"})
    assert r.modalities["t"][0] == '=cmd|calc, "<script>"\nline two' and "<script" not in r._repr_html_()
    f.write_text("n,t\n"+"".join(f"{i},x{i}\n" for i in range(200_000))+"0.5,y\n"); assert read(f, {"n": "n"}).modalities["n"][-1] == .5   # type inferred from all rows
    f.write_text("t,s_1,s_2\na,1,2\nb,3,\n")
    with pytest.raises(InputError, match="partly NaN in 1 records"): read(f, {"s": "s_*"})
    f.write_text("t\n")
    with pytest.raises(InputError, match="is empty"): read(f, {"t": "t"})
    f.write_text("id,t\n007,a\n7,b\n"); assert read(f, {"t": "t"}, id="id").ids.tolist() == ["007", "7"]
    f.write_text("id,t\nx,a\nx,b\n")
    with pytest.raises(InputError, match="duplicates: 'x'"): read(f, {"t": "t"}, id="id")

# ---- NPZ

def rich(n=30):
    rng = np.random.default_rng(3); hide = lambda x, p=.3: [None if rng.random() < p else v for v in x]
    return MultimodalRecords({"image": hide(rng.integers(0, 255, (n, 3, 3, 3)).astype(np.uint8)), "text": hide([f"文 {i}" for i in range(n)]), "x": rng.normal(size=(n, 2)).astype(np.float32), "count": np.arange(n)},
        label=hide(list("uvw")*(n//3)), groups={"shop": hide(list("ab")*(n//2)), "age": hide(list(range(n)))}, ids=[f"i{i}" for i in range(n)],
        features={"text": hide(rng.normal(size=(n, 4)))}, source="somewhere", licence="CC0", label_name="kind", cells={"count": np.arange(n) > 2})

def test_round_trip(tmp_path):
    r = rich(); back = read(save(r, tmp_path/"r.npz"))
    assert back.fingerprint == r.fingerprint and (back.source, back.licence, back.label_name, back.classes) == ("somewhere", "CC0", "kind", ("u", "v", "w"))
    assert all((back.present(k) == r.present(k)).all() for k in r.names) and {f.name for f in tmp_path.iterdir()} == {"r.npz"}
    with np.load(tmp_path/"r.npz", allow_pickle=False) as z: assert all(z[k].dtype != object for k in z.files)
    part = read(tmp_path/"r.npz", {"words": "text"}); assert list(part.modalities) == ["words"] and part.classes == r.classes

@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.none(), st.text(max_size=6)), min_size=1, max_size=8), st.one_of(st.none(), st.lists(st.sampled_from([0, 1, None]), min_size=8, max_size=8)))
def test_round_trip_of_any_text(tmp_path, texts, label):
    if all(t is None for t in texts): return
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); r = MultimodalRecords({"t": texts}, label=label and label[:len(texts)])
    try: save(r, tmp_path/"r.npz")
    except InputError as e: assert "NUL" in str(e) and any(t and t.endswith("\0") for t in texts); return
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); assert read(tmp_path/"r.npz").fingerprint == r.fingerprint

def test_pickles_are_refused_and_never_run(tmp_path):
    class Evil:
        def __reduce__(self): return (os.mkdir, (str(tmp_path/"was_here"),))
    np.savez(tmp_path/"e.npz", x=np.array([Evil()], dtype=object), y=np.arange(1.))
    with pytest.raises(InputError, match="pickled Python objects"): read(tmp_path/"e.npz", {"y": "y"})
    assert not (tmp_path/"was_here").exists()

def test_damaged_npz(tmp_path):
    whole = save(rich(), tmp_path/"r.npz").read_bytes(); rng = np.random.default_rng(0)
    for cut in rng.integers(4, len(whole)-1, 15):
        (tmp_path/"r.npz").write_bytes(whole[:cut])
        with pytest.raises(InputError): read(tmp_path/"r.npz")
    for _ in range(60):
        b = bytearray(whole); b[rng.integers(4, len(b))] ^= 1 << rng.integers(8); (tmp_path/"r.npz").write_bytes(b)
        try: read(tmp_path/"r.npz")
        except InputError: pass

def test_foreign_npz_and_bombs(tmp_path, monkeypatch):
    np.savez(tmp_path/"f.npz", a=np.arange(6.), b=np.ones((6, 2))*np.arange(6)[:, None], y=list("uvuvuv"), name=list("abcdef"))
    r = read(tmp_path/"f.npz", {"x": "a", "z": "b"}, label="y", id="name"); assert r.classes == ("u", "v") and r.ids[5] == "f" and r.label_name == "y"
    assert list(read(tmp_path/"f.npz", label="y", id="name").modalities) == ["a", "b"]
    with pytest.raises(InputError, match="Did you mean `name`"): read(tmp_path/"f.npz", id="nam")
    with pytest.raises(InputError, match="matches 4 arrays"): read(tmp_path/"f.npz", {"x": "*"})
    monkeypatch.setattr("mmkit.data.sources.MAX_BYTES", 100)
    with pytest.raises(InputError, match="unpacks to"): read(tmp_path/"f.npz", label="y")

def test_save_refuses_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    r = rich()
    for bad in (tmp_path/"x.npy", tmp_path/"no"/"x.npz"):
        with pytest.raises(InputError, match="must end in"): save(r, bad)
    for name in ("ids", "about", "a/b"):
        with pytest.raises(InputError, match="cannot be saved"): save(MultimodalRecords({name: [1, 2]}), tmp_path/"x.npz")
    save(r, tmp_path/"x.npz"); before = (tmp_path/"x.npz").read_bytes()
    monkeypatch.setattr(np.lib.format, "write_array", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"): save(r, tmp_path/"x.npz")
    assert [f.name for f in tmp_path.iterdir()] == ["x.npz"] and (tmp_path/"x.npz").read_bytes() == before

# ---- a folder of pictures

def bomb(path, w, h): # a valid PNG header that promises w × h pixels
    chunk = lambda t, d: struct.pack(">I", len(d))+t+d+struct.pack(">I", zlib.crc32(t+d))
    path.write_bytes(b"\x89PNG\r\n\x1a\n"+chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))+chunk(b"IDAT", zlib.compress(b"\0"*1000))+chunk(b"IEND", b""))

@pytest.fixture
def folder(tmp_path):
    f = tmp_path/"shop"; (f/"sub").mkdir(parents=True)
    Image.new("RGB", (20, 10), "red").save(f/"a.png"); Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(f/"sub"/"b.png"); Image.new("L", (8, 8), 7).save(f/"c.jpg"); Image.new("P", (8, 8)).save(f/"d.gif")
    return f

def manifest(folder, *files, extra=""):
    (folder/"manifest.csv").write_text("file,kind\n"+"".join(f'"{v}",{"uv"[i % 2]}\n' if v is not None else f',{"uv"[i % 2]}\n' for i, v in enumerate(files)))
    return read(folder, {"image": "file"}, label="kind", side=16)

def test_folder(folder):
    with pytest.warns(WeakInputWarning, match="1 of 6 pictures of `image`"): r = manifest(folder, "a.png", "sub/b.png", "c.jpg", "d.gif", "lost.png", None)
    x = r.modalities["image"]; assert x.shape == (6, 16, 16, 3) and x.dtype == np.uint8 and r.present("image").tolist() == [True]*4+[False]*2
    assert (x[0, 8, 8] == [255, 0, 0]).all() and (x[0, 0, 0] == 255).all() and (x[1] == 255).all() and r.source == "manifest.csv"
    (folder/"other.csv").write_text("f\na.png\n"); assert len(read(folder/"other.csv", {"photo": "f"}, pictures=("photo",))) == 1
    assert read(folder/"other.csv", {"photo": "f"}).modalities["photo"][0] == "a.png"   # text unless pictures are asked for

@pytest.mark.parametrize("bad", ["../x.png", "/etc/passwd", "sub/../../x.png", "..\\\\x.png", "link.png", "linked/x.png"])
def test_no_way_out_of_the_folder(folder, bad):
    Image.new("RGB", (4, 4)).save(folder.parent/"x.png"); (folder/"link.png").symlink_to(folder.parent/"x.png"); (folder/"linked").symlink_to(folder.parent)
    with pytest.raises(InputError, match="outside its folder"): manifest(folder, "a.png", bad)
    with pytest.raises(InputError, match="outside its folder"): read(folder, {"image": "file"}, manifest="../manifest.csv")

def test_broken_pictures_are_named(folder):
    whole = (folder/"c.jpg").read_bytes(); (folder/"cut.jpg").write_bytes(whole[:len(whole)//2]); (folder/"text.png").write_text("hello"); bomb(folder/"bomb.png", 60000, 60000); bomb(folder/"big.png", 9000, 9000)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(folder/"deep.png"); (folder/"run.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"); (folder/"empty.png").write_bytes(b"")
    for name in ("cut.jpg", "text.png", "bomb.png", "big.png", "deep.png", "run.eps", "empty.png"):
        with pytest.raises(InputError, match=f"1 pictures of `image` cannot be read: '{name}'"): manifest(folder, "a.png", name)
    with pytest.raises(InputError, match="4 pictures.*…"): manifest(folder, "cut.jpg", "text.png", "bomb.png", "deep.png")

def test_folder_without_manifest(folder):
    with pytest.raises(InputError, match="no file `manifest.csv`"): read(folder, {"image": "file"})
    with pytest.raises(InputError, match="`side` is 0"): (folder/"manifest.csv").write_text("file\na.png\n"); read(folder, {"image": "file"}, side=0)
