"The bundled emoji people: the archive, the loader, the errors it puts into captions, and the script that rebuilds it."
import io, json, lzma, sys
import numpy as np
import pytest
from conftest import ROOT
from mmkit.checks import InputError
from mmkit.data import bundled
from mmkit.data.bundled import FACTORS, emoji_people, emoji_people_truth, emoji_people_words
from mmkit.misalignment.detect import read_factors

FOLDER = ROOT/"mmkit"/"data"/"archives"
ABOUT = json.loads((FOLDER/"emoji_people.json").read_text(encoding="utf-8"))

def test_the_archive_is_small_and_says_where_it_comes_from():
    assert sum(f["bytes"] for f in ABOUT["files"].values()) < 1e6 and ABOUT["rows"] == 700 and ABOUT["factors"] == {"tone": 5, "gender": 2, "role": 70}
    assert set(ABOUT["sources"]) == {"emoji-datasource", "emoji-datasource-google", "emoji-datasource-twitter", "cldr-annotations-full", "cldr-annotations-derived-full"}
    assert ABOUT["sources"] == {k: v for k, v in bundled.manifest()["sources"].items()}  # the same tarballs as the emoji set
    notice = (FOLDER/ABOUT["notice"]).read_text(encoding="utf-8"); assert all(f"emoji_people.{part}" in notice for part in ("images.noto", "images.twemoji", "texts.json"))

@pytest.mark.parametrize("style, distinct", [("noto", 309), ("twemoji", 376)])
def test_pictures(style, distinct):
    r = emoji_people(image_style=style, distinct=False); x = r.modalities["image"]
    assert x.shape == (700, 32, 32, 3) and x.dtype == np.uint8 and len({v.tobytes() for v in x}) > 690
    d = emoji_people(image_style=style); assert len(d) == distinct == ABOUT["distinct"][style] and set(d.ids) < set(r.ids) and len(set(d.groups["role"])) == 70
    u = d.modalities["image"].reshape(distinct, -1).astype(float); whole = x.reshape(700, -1).astype(float); u -= whole.mean(0); u /= np.linalg.norm(u, axis=1, keepdims=True); c = u @ u.T; np.fill_diagonal(c, 0)
    assert c.max() < .92 # no near twins stay

def test_every_combination_once():
    r = emoji_people(distinct=False); seen = set(zip(*(r.groups[f] for f in FACTORS)))
    assert len(seen) == 700 and {f: len({s[k] for s in seen}) for k, f in enumerate(FACTORS)} == ABOUT["factors"]

def test_order_gives_no_factor_away():
    r = emoji_people(distinct=False)
    for f, chance in (("tone", .2), ("gender", .5), ("role", 1/70)): g = np.array(r.groups[f]); assert abs((g[1:] == g[:-1]).mean()-chance) < .06

def test_the_two_styles_show_the_same_people():
    a, b = (emoji_people(image_style=s, distinct=False) for s in ("noto", "twemoji")); assert list(a.ids) == list(b.ids) and list(a.groups["role"]) == list(b.groups["role"])
    x, y = (np.asarray(r.modalities["image"], float).reshape(700, -1) for r in (a, b)); x, y = ((v-v.mean(0))/np.linalg.norm(v-v.mean(0), axis=1, keepdims=True) for v in (x, y))
    role = np.array(a.groups["role"]); assert (role[(x @ y.T).argmax(1)] == role).mean() > .25 # chance 1/70

def test_pictures_show_the_tone_they_are_said_to_show():
    r = emoji_people(distinct=False); dark = np.array([np.sort(p.reshape(-1, 3).mean(1))[:300].mean() for p in r.modalities["image"]]); tone = np.array(r.groups["tone"])
    assert dark[tone == "light"].mean() > dark[tone == "medium"].mean() > dark[tone == "dark"].mean()

@pytest.mark.parametrize("language", ["en", "ja"])
def test_captions_say_what_the_truth_says(language):
    noise = dict(swapped=.2, redrawn={"role": .3}, omitted={"tone": .3, "gender": .3, "role": .2}, seed=3); r, t = emoji_people(language, **noise), emoji_people_truth(**noise); words = emoji_people_words(language)
    codes, _ = read_factors(list(r.modalities["caption"]), words)
    for f in FACTORS: assert [list(words[f])[c] if c >= 0 else None for c in codes[f]] == list(t.said[f]), f

def test_truth_stays_out_of_the_records():
    noise = dict(swapped=.3, redrawn={"tone": 1.}, seed=1); r = emoji_people(**noise)
    assert set(r.modalities) == {"image", "caption"} and set(r.groups) == set(FACTORS) and not r.features and r.label is None
    assert list(r.groups["tone"]) == list(emoji_people(seed=1).groups["tone"]) # what the drawing shows, untouched by the noise
    assert (r.modalities["image"] == emoji_people().modalities["image"]).all()

@pytest.mark.parametrize("rate", [0., .1, .5, 1.])
def test_rates(rate):
    t = emoji_people_truth(swapped=rate, distinct=False, seed=2); assert t.swapped.sum() == round(700*rate)
    shown, said = (list(zip(*(v[f] for f in FACTORS))) for v in (t.shown, t.said)); assert [a != b for a, b in zip(shown, said)] == list(t.swapped) and sorted(shown) == sorted(said)
    t = emoji_people_truth(redrawn={"tone": rate}, omitted={"gender": rate}, distinct=False, seed=2)
    assert abs(t.wrong["tone"].mean()-.8*rate) < .06 and abs(t.missing["gender"].mean()-rate) < .06 and not t.wrong["role"].any() and not t.swapped.any()

def test_kinds_of_error_do_not_disturb_each_other():
    one, two = emoji_people_truth(redrawn={"tone": .5}, seed=4), emoji_people_truth(redrawn={"tone": .5, "role": .5}, omitted={"gender": 1}, seed=4)
    assert one.said["tone"] == two.said["tone"] and one.said["role"] != two.said["role"]

def test_omitted_captions_are_real_names():
    r = emoji_people(omitted={"role": 1.}); assert set(r.modalities["caption"]) <= {f"{g}: {t} skin tone" for g in ("woman", "man") for t in ("light", "medium-light", "medium", "medium-dark", "dark")}
    assert set(emoji_people(omitted={f: 1. for f in FACTORS}, seed=0).modalities["caption"]) == {"person"}

@pytest.mark.parametrize("options, words", [(dict(swapped=1.2), "≤ 1"), (dict(redrawn=.3), "a rate for each factor"), (dict(redrawn={"age": .3}), "Choose one of"), (dict(omitted={"tone": -1}), "≥ 0"),
    (dict(language="fr"), "language"), (dict(image_style="apple"), "image_style"), (dict(rows=400), "≤ 309"), (dict(seed=-1), "seed")])
def test_wrong_options_are_refused_in_words(options, words):
    with pytest.raises(InputError, match=words): emoji_people(**options)

def test_door():
    assert bundled.load("emoji_people", rows=30, seed=2).fingerprint == emoji_people(rows=30, seed=2).fingerprint
    with pytest.raises(InputError, match="Did you mean `swapped`"): bundled.load("emoji_people", swaped=.2)
    assert next(s for s in bundled.available() if s["name"] == "emoji_people")["n"] == 700

def test_the_script_reads_code_points():
    sys.path.insert(0, str(ROOT/"scripts"))
    import build_emoji_people as b
    assert b.factors("1F469-1F3FF-200D-1F692") == ("dark", "woman", "1F692") and b.factors("1F3C3-1F3FB-200D-2642-FE0F") == ("light", "man", "1F3C3") and b.factors("1F3C3-1F3FD") == ("medium", "person", "1F3C3")
    assert b.factors("1F469-1F3FF") is None and b.factors("1F469-1F3FE-200D-2764-FE0F-200D-1F48B-200D-1F468-1F3FD") is None and b.factors("1F3C3-1F3FB-200D-2642-FE0F-200D-27A1") is None
    assert b.common(["man running", "woman running", "person running"], True) == "running" and b.common(["走る男", "走る女"], False) == "走る"
    x = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3)).astype(np.uint8); x[2] = x[0]; assert b.distinct(x) == [1, 1, 0, 1]
