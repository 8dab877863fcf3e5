#!/usr/bin/env python
"""Rebuild the bundled set of emoji people (mmkit/data/archives/emoji_people*) from the pinned packages of build_emoji.py.

Needs npm on the path and network for the download; no encoder. The same versions give the same bytes; `--check` compares them with what is shipped.
The file NOTICE is written by build_emoji.py: both sets have the same sources.
"""
import argparse, hashlib, io, json, lzma, os, sys, tempfile
from pathlib import Path
import numpy as np
import build_emoji as emoji
from build_emoji import ARCHIVES, SIDE, STYLES, say
from mmkit.data import encoders

PACKAGES = {p: emoji.PACKAGES[p] for p in ("emoji-datasource", "emoji-datasource-google", "emoji-datasource-twitter", "cldr-annotations-full", "cldr-annotations-derived-full")}
TONES = {"1F3FB": "light", "1F3FC": "medium-light", "1F3FD": "medium", "1F3FE": "medium-dark", "1F3FF": "dark"}
PERSONS = {"1F468": "man", "1F469": "woman", "1F9D1": "person"}  # a person, joined to the sign of a role
SIGNS = {"2642": "man", "2640": "woman"}                         # a role, joined to the sign of a gender
JOINER, LEFT_OUT = "200D", ("1F9DC",)                            # merpeople: one word for gender and role
ROLES, NEAR, SEED = 70, .92, 0
LICENCES = {k: emoji.LICENCES[k] for k in ("images.noto", "images.twemoji", "texts")} | {"factors": "MIT (emoji-datasource, Cal Henderson)"}

def factors(unified):
    "(tone, gender, role) of one sequence of code points; None when it is not one person with one tone in one role."
    parts = [p for p in unified.split("-") if p != "FE0F"]; tone = [TONES[p] for p in parts if p in TONES]; rest = [p for p in parts if p not in TONES]
    if len(tone) != 1: return None
    if rest[0] in PERSONS: return (tone[0], PERSONS[rest[0]], rest[2]) if len(rest) == 3 and rest[1] == JOINER else None
    if len(rest) == 1: return tone[0], "person", rest[0]
    return (tone[0], SIGNS[rest[2]], rest[0]) if len(rest) == 3 and rest[1] == JOINER and rest[2] in SIGNS else None

def found(tarballs):
    "({(tone, gender, role): file of the drawing}, {(tone or '', gender, role): code points}) of all roles that are complete."
    table, picture, code = json.loads(emoji.members(tarballs["emoji-datasource"], lambda p: p == "emoji.json")["emoji.json"]), {}, {}
    for e in table:
        for v in e.get("skin_variations", {}).values():
            if e["category"] == "People & Body" and (key := factors(v["unified"])) and v["has_img_google"] and v["has_img_twitter"]:
                picture[key], code[key], code["", *key[1:]] = v["image"], v["unified"], e["unified"]
    genders = ("man", "woman", "person"); complete = lambda r: all((t, g, r) in picture for t in TONES.values() for g in genders)
    roles = [r for r in sorted({k[2] for k in picture}) if r not in LEFT_OUT and complete(r)]
    if len(roles) != ROLES: sys.exit(f"{len(roles)} roles are complete, but {ROLES} were expected. Did a source change?")
    return roles, picture, code

def captions(tarballs, roles, code):
    "{language: {role: {gender: [name without a tone, then one for each tone]}}} and the people without a role under the key ''."
    out, bare = {}, {g: p for p, g in PERSONS.items()}
    for language in ("en", "ja"):
        words = emoji.annotations(tarballs, language)
        def name(unified):
            c = "".join(chr(int(u, 16)) for u in unified.split("-"))
            return (words.get(c) or words[c.replace("\ufe0f", "")])["tts"][0]
        get = lambda g, r, t: name("-".join(x for x in (bare[g], next((k for k, v in TONES.items() if v == t), "")) if x) if r == "" else code[t, g, r])
        out[language] = {r: {g: [get(g, r, t) for t in ("", *TONES.values())] for g in ("woman", "man", "person")} for r in ("", *roles)}
    return out

def common(texts, words):
    "The longest run of words (or of characters) that stands in all of `texts`."
    cut = [t.split() if words else list(t) for t in texts]; glue = " " if words else ""; runs = lambda s: {glue.join(s[i:j]) for i in range(len(s)) for j in range(i+1, len(s)+1)}
    return max(set.intersection(*map(runs, cut)), key=lambda r: (len(r), r)).strip(" :,")

def distinct(x):
    "(n,) 1 for every drawing that has no near twin among the kept ones before it (cosine of the pixels around their mean below `NEAR`)."
    u = x.reshape(len(x), -1).astype(float); u -= u.mean(0); u /= np.linalg.norm(u, axis=1, keepdims=True); kept = []
    for i in range(len(u)):
        if not kept or (u[kept] @ u[i]).max() < NEAR: kept.append(i)
    return [int(i in set(kept)) for i in range(len(u))]

def drawings(tarball, folder, files):
    "(n, 32, 32, 3) uint8 in the order of `files`."
    from PIL import Image
    raw = emoji.members(tarball, lambda p: p.startswith(f"img/{folder}/64/"))
    return emoji.small([encoders._picture(Image.open(io.BytesIO(raw[f"img/{folder}/64/{f}"])), i) for i, f in enumerate(files)])

def build(work):
    "{file name: bytes} of the whole archive."
    work.mkdir(parents=True, exist_ok=True); tarballs = {p: emoji.fetch(p, work) for p in PACKAGES}
    roles, picture, code = found(tarballs); names = captions(tarballs, roles, code)
    said = {l: {r: common([v[0] for v in names[l][r].values()], words=l == "en") for r in roles} for l in names}; plain = said["en"]
    keys = [(t, g, r) for r in roles for g in ("woman", "man") for t in TONES.values()]
    keys = [keys[i] for i in np.random.default_rng(SEED).permutation(len(keys))]  # the sources' order would give the factors away
    x = {s: drawings(tarballs[f"emoji-datasource-{folder}"], folder, [picture[k] for k in keys]) for s, folder in STYLES.items()}
    stretch = sorted(range(len(keys)), key=lambda i: keys[i])  # neighbours in the file look alike, which compresses; the loader puts them back
    files = {f"emoji_people.images.{s}.npy.xz": emoji.npy(v[stretch], pb=0, lc=4) for s, v in x.items()}
    texts = {"records": [(t, g, plain[r]) for t, g, r in keys], "position": [int(i) for i in np.argsort(stretch)], "tones": list(TONES.values()), "genders": ["woman", "man"],
        "captions": {l: {plain[r] if r else "": v for r, v in names[l].items()} for l in names}, "role_words": {l: {plain[r]: w for r, w in v.items()} for l, v in said.items()}, "distinct": {s: distinct(v) for s, v in x.items()}}
    files["emoji_people.texts.json.xz"] = lzma.compress(json.dumps(texts, ensure_ascii=False).encode(), preset=9 | lzma.PRESET_EXTREME)
    manifest = {"name": "emoji_people", "rows": len(keys), "factors": {"tone": len(TONES), "gender": 2, "role": len(roles)}, "order": f"shuffled with seed {SEED}", "image_side": SIDE,
        "distinct": {s: sum(v) for s, v in texts["distinct"].items()}, "near": f"cosine of the pixels around their mean at least {NEAR} to a drawing kept before",
        "sources": {p: {"version": v, "sha256": h} for p, (v, h) in PACKAGES.items()}, "licences": LICENCES, "notice": "NOTICE.txt",
        "files": {n: {"sha256": hashlib.sha256(b).hexdigest(), "bytes": len(b)} for n, b in sorted(files.items())}}
    return files | {"emoji_people.json": (json.dumps(manifest, indent=1, ensure_ascii=False)+"\n").encode()}

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", type=Path, default=Path(tempfile.gettempdir())/"mmkit-build-emoji", help="folder for downloads; kept between runs (default: %(default)s)")
    a.add_argument("--out", type=Path, default=ARCHIVES, help="folder to write to (default: mmkit/data/archives of this checkout)")
    a.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that would change")
    a = a.parse_args(); files = build(a.work)
    changed = [n for n in files if not (a.out/n).exists() or (a.out/n).read_bytes() != files[n]]
    if a.check: sys.exit(f"would change: {', '.join(changed)}" if changed else 0)
    a.out.mkdir(parents=True, exist_ok=True)
    for n in changed: (a.out/f"{n}.part").write_bytes(files[n]); os.replace(a.out/f"{n}.part", a.out/n)
    say(f"{len(files)} files, {sum(map(len, files.values()))/1e6:.2f} MB, {len(changed)} changed")

if __name__ == "__main__": main()
