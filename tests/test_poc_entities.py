"The entities report from end to end: both languages, hostile names, a folder of one's own, a certificate that is refused, and piles that agree with their numbers."
import json, re
from pathlib import Path
import numpy as np, pandas as pd, pytest
from typer.testing import CliRunner
import mmkit.poc.run as runner
from mmkit.checks import InputError
from mmkit.cli import app
from mmkit.language import MESSAGES, placeholders, say
from mmkit.poc import entities as page
from mmkit.poc.parameters import check_parameters, read_config
from mmkit.poc.report import faults
from mmkit.results import SIGNS
from conftest import made_report, read, results, run_report
from test_poc import IMAGE, SCRIPT, browser, check_language, check_page, words

SMALL = dict(target_precision=.6, rounds=1, examples=5, link_value=10, review_cost=2, wrong_cost=30, currency="円")
PARTS = "amber birch copper dahlia ebony fern garnet hazel indigo jasper".split()

def write_folder(folder, n=140, seeds=90):
    "Two shops with the same wares: names with one word exchanged, colours, and who is sold with whom; ten wares a side belong to nobody; names carry markup."
    rng = np.random.default_rng(0); code = rng.permutation(1000)[:n+20]; name = [f"{PARTS[c//100]} {PARTS[c//10 % 10]} {PARTS[c % 10]}" for c in code]; name[0], name[1] = SCRIPT, IMAGE
    for side, who in (("a", range(n+10)), ("b", [*range(n), *range(n+10, n+20)])):
        d = folder/side; d.mkdir(parents=True); said = lambda i: name[i] if side == "a" or i < 2 else " ".join(np.where(np.arange(3) == i % 3, "new", name[i].split()))
        (d/"entities.tsv").write_text("id\tname\n"+"".join(f"{side}{i}\t{said(i)}\n" for i in who)); there = set(who)
        (d/"attributes.tsv").write_text("id\tattribute\tvalue\n"+"".join(f"{side}{i}\t{PARTS[code[i]//100]}\t1\n{side}{i}\tlast {PARTS[code[i] % 10]}\t1\n" for i in who if i % 4))
        (d/"triples.tsv").write_text("head\trelation\ttail\n"+"".join(f"{side}{i}\tbeside\t{side}{(i+k) % n}\n" for i in who for k in (1, 5, 17) if (i+k) % n in there))
    links = [f"a{i}\tb{i}\n" for i in rng.permutation(n)]; (folder/"seeds.tsv").write_text("a\tb\n"+"".join(links[:seeds])); (folder/"truth.tsv").write_text("a\tb\n"+"".join(links)); return folder

def start(home, language, **change): return run_report("entities", {**SMALL, "data": write_folder(home/"wares <b>"), **change}, language, home)

@pytest.fixture(scope="module", params=[pytest.param(l, marks=pytest.mark.slow) for l in ("en", "ja")])
def report(request, tmp_path_factory): return made_report(start, request.param, tmp_path_factory.mktemp("a {x ü "))

# ---- the page

def test_five_files_and_a_page_of_its_own(report): check_page(report)

def test_one_language_and_no_bare_key(report): check_language(report)

def test_the_first_page_answers(report):
    html, r = read(report, "report.html"), results(report); first = words(html[:html.index(f"<h2>{say('report_evidence', report[0])}</h2>")]); c = r["counts"]
    assert (say("entities_next_yes", report[0]) in first) == r["certified"] and f"{c['review']:,}" in first and f"{c['seeds']:,}" in first and say("entities_decision", report[0]) in first
    for v in r["verdicts"]: assert v["text"] in first and v["next_step"] in first and f"{v['estimate']['value']:.3f}" in first and f"{SIGNS[v['verdict']]} " in first

def test_piles_agree_with_the_numbers(report):
    r = results(report); c = r["counts"]; assert c["accept"]+c["review"]+c["leave"] == c["n_a"]-c["seeds"] and len(r["accepted"]) == c["accept"] and len(r["review"]) == c["review"] and c["seeds"] == 90
    assert all(l["confidence"] > .2 for l in r["review"]) and not {l["a"] for l in r["accepted"]} & {l["a"] for l in r["review"]} and r["certified"] == (c["accept"] > 0 and not r["refusal"])
    right = np.mean([l["a"][1:] == l["b"][1:] for l in r["accepted"]]) if r["accepted"] else None
    if right is not None: assert r["truth"]["truth_precision"]["value"] == pytest.approx(right)
    order = [l["confidence"] for l in r["review"]]; assert order == sorted(order, reverse=True)

def test_every_number_has_its_company(report):
    r = results(report); assert {"hits_1", "dangling", "accepted_share"} <= set(r["estimates"]) and r["schema_version"] == 1
    for e in [*r["estimates"].values(), *(g["gap"] for g in r["lacking"])]: assert {"value", "low", "high", "chance", "n", "higher_is"} <= set(e) and e["n"] > 0 and e["low"] < e["high"]
    assert r["lacking"] and r["lacking"][0]["without"] > 0 # the fourth of the wares without attributes

def test_the_run_can_be_repeated(report):
    p = json.loads(read(report, "provenance.json")); given = read_config(report[1]/"parameters.yaml"); html = read(report, "report.html")
    assert check_parameters("entities", given).model_dump() == p["parameters"] and "mmkit poc run entities" in html and p["computation"]["fingerprint"]
    steps = report[2].stderr.strip().split("\n"); assert [s.split("]")[0] for s in steps] == [f"[{i}/{len(steps)}" for i in range(1, len(steps)+1)]

@pytest.mark.parametrize("width", (1280, 800))
def test_the_page_fits(report, browser, width):
    tab = browser.new_page(viewport={"width": width, "height": 1000}); asked = []; tab.on("request", lambda r: asked.append(r.url)); tab.goto((report[1]/"report.html").as_uri())
    assert [u for u in asked if not u.startswith(("file:", "data:"))] == [] and tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt.length > 5)"); tab.close()

# ---- other roads through the template

@pytest.mark.slow
def test_too_few_links_are_refused_in_words_and_the_page_says_how_many_to_buy(tmp_path):
    folder = write_folder(tmp_path/"few", n=60, seeds=25); answer = run_report("entities", dict(data=folder, target_precision=.99, rounds=0), "en", tmp_path); assert answer.exit_code == 0, answer.output
    out = Path(answer.stdout.strip()).parent; r = json.loads((out/"results.json").read_text()); text = words((out/"report.html").read_text())
    assert not r["certified"] and r["accepted"] == [] and r["refusal"] and "No link can be used unseen" in text and "about 75 further links" in text and "at least 100 confirmed links that look like" in text

def test_a_folder_of_ones_own(tmp_path):
    folder = write_folder(tmp_path/"w", 30, 12); task = lambda: page.entity_task(check_parameters("entities", dict(data=str(folder)))); t = task(); assert (len(t.graph_a), len(t.seeds), len(t.truth), len(t)) == (40, 12, 18, 80) and not set(t.truth.a) & set(t.seeds.a) and "w/a × w/b" == t.source
    (folder/"truth.tsv").unlink(); assert task().truth is None; (folder/"seeds.tsv").rename(folder/"seeds.txt")
    with pytest.raises(InputError, match="no seeds.tsv"): task()
    (folder/"b").rename(folder/"c")
    with pytest.raises(InputError, match="no folder `b`"): task()

def test_dbp15k_and_emoji(tmp_path):
    for side in "12": (tmp_path/f"ent_ids_{side}").write_text("".join(f"{i}\thttp://x/resource/E{i}\n" for i in range(10*(side == "2"), 10+10*(side == "2")))); (tmp_path/f"triples_{side}").write_text(f"{10*(side == '2')}\t0\t{10*(side == '2')+1}\n")
    (tmp_path/"ref_ent_ids").write_text("".join(f"{i}\t{i+10}\n" for i in range(10))); t = page.entity_task(check_parameters("entities", dict(data=str(tmp_path), seed_share=.3))); assert (len(t.seeds), len(t.truth)) == (3, 7)
    e = page.entity_task(check_parameters("entities", dict(rows=100, dangling=0, images_missing=.5, text="none", seed=3))); assert (len(e.graph_a), len(e.seeds), int(e.graph_a.has_image.sum())) == (100, 20, 50) and "50%" in e.words["ja"] and "no words" in e.words["en"]

class Fixed: # only what the sentences read
    def __init__(self, frame, refusal=""): self.frame, self.refusal = frame, refusal
    def to_frame(self): return self.frame
    def estimates(self): return dict(accepted_precision=page.Estimate(.97, .955, .985, 0., 100))

def test_piles_follow_the_prices():
    f = pd.DataFrame(dict(a=["x", "x", "y", "z"], b=list("1234"), confidence=[.99, .4, .45, .1], accepted=[True, False, False, False])); many = lambda **p: {k: v.a.tolist() for k, v in page.piles(Fixed(f), check_parameters("entities", p)).items()}
    assert many() == dict(accept=["x"], review=[], leave=["y", "z"]) and many(link_value=10, review_cost=2) == dict(accept=["x"], review=["y"], leave=["z"]) and many(link_value=100, review_cost=2)["review"] == ["y", "z"]

@pytest.mark.parametrize("language", ("en", "ja"))
def test_the_answer_never_promises_what_was_refused(language):
    f = pd.DataFrame(dict(a=list("xy"), b=list("12"), confidence=[.99, .6], accepted=[True, False])); p = check_parameters("entities", {}); task = type("T", (), dict(seeds=[0]*20))
    for result, sure in ((Fixed(f), True), (Fixed(f, "too few"), False), (Fixed(f.assign(accepted=False)), False)):
        pile = page.piles(result, p); assert page.certified(result, pile) == sure and ("97.0%" in page.answer(result, p, pile, language)) == sure and ("95 %" in page.what_next(result, p, pile, task, language)) != sure

@pytest.mark.parametrize("k,n", [((0, 10), (10, 10)), ((5, 9), (5, 9)), ((10, 0), (10, 10)), ((1, 0), (1, 5))])
def test_a_gap_lies_in_its_interval(k, n):
    e = page.share_gap(k[0], n[0], k[1], n[1]); assert -1 <= e.low <= e.value <= e.high <= 1 and e.value == pytest.approx(k[0]/n[0]-k[1]/n[1]) and e.low < e.high

def test_every_message_in_both_languages():
    mine = [k for k in MESSAGES if k.startswith(("entities_", "phrase_links", "phrase_alone", "phrase_lack", "phrase_seeds", "phrase_review", "truth_", "modality_"))]; assert len(mine) > 50
    for k in mine: assert set(MESSAGES[k]) == {"en", "ja"} and MESSAGES[k]["ja"] != MESSAGES[k]["en"] and placeholders(MESSAGES[k]["en"]) == placeholders(MESSAGES[k]["ja"])

# ---- what is refused before anything starts

BAD = {"target": (dict(target_precision=1), "from 0.5 to 0.999"), "share": (dict(seed_share=0), "from 0.001"), "unknown set": (dict(data="emojigraphs"), "emoji_graphs"), "records": (dict(data="emoji"), "no such file or folder"), "few": (dict(rows=5), "at least 20"),
       "price missing": (dict(link_value=5), "looking at one link costs"), "value missing": (dict(review_cost=5), "one right link earns"), "modality": (dict(without="f(x)"), "column names"), "not finite": (dict(link_value="inf"), "number from 0"),
       "code": (dict(rounds="__import__('os')"), "whole number from 0"), "markup": (dict(currency="<b>"), "must be a name"), "of another report": (dict(columns_a="x"), "not a parameter of `entities`"), "misspelt": (dict(target_precission=.9), "target_precision")}

@pytest.mark.parametrize("given, message", BAD.values(), ids=BAD)
def test_refused(given, message, tmp_path):
    answer = CliRunner().invoke(app, ["poc", "run", "entities", *(w for k, v in given.items() for w in ("-p", f"{k}={v}")), "--out", str(tmp_path/"r")])
    assert answer.exit_code == 2 and message in answer.stderr and answer.stdout == "" and "Traceback" not in answer.stderr and not (tmp_path/"r").exists()

def test_a_file_is_no_folder(tmp_path):
    (tmp_path/"t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="a folder with two graphs"): check_parameters("entities", dict(data=str(tmp_path/"t.csv")))
    with pytest.raises(InputError, match="`text` makes the emoji"): check_parameters("entities", dict(data=str(tmp_path), text="none"))
