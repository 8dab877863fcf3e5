"The coherence report from end to end: both languages, hostile texts, files of one's own, records without a second modality, and piles that agree with their numbers."
import json, re
from pathlib import Path
import numpy as np, pytest
from mmkit.checks import InputError
from mmkit.language import MESSAGES, say
from mmkit.poc import coherence as page
from mmkit.poc.parameters import check_parameters, read_config
from mmkit.poc.report import faults
from mmkit.results import SIGNS
import mmkit.poc.run as runner
from conftest import made_report, read, results, run_report
from test_poc import IMAGE, SCRIPT, browser, check_language, check_page, words

VERBS = "open cut wash boil season stir serve".split()

def write_lines(path, n=90, open_=30, steps=5, second=True):
    "Instructions whose verbs tell their place, and captions that tell it a little; some have no known order. One text carries markup."
    rng = np.random.default_rng(0); lines = []
    for i in range(n):
        at = np.sort(rng.choice(len(VERBS), steps, replace=False)); shuffled = rng.permutation(steps) if i < open_ else np.arange(steps); known = i >= open_
        row = lambda k, text: dict(text=text, key=int(k), **({"position": int(k)} if known else {}))
        one = [row(k, f"{SCRIPT if i == 0 and k == 0 else ''}{VERBS[at[k]]} the {rng.choice(['pan', 'dish', 'bowl'])} number {i}") for k in shuffled]
        two = [row(k, f"picture of {VERBS[at[k]] if rng.random() < .6 else 'food'} {IMAGE if i == 1 else ''}") for k in rng.permutation(steps)] if second else []
        lines.append(dict(id=f"r{i} <b>", steps=one, **({"photos": two} if second else {})))
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8"); return path

def start(home, language, **change): return run_report("coherence", {**dict(data=write_lines(home/"own <i>.jsonl"), second="photos", promise=.6, min_validation=20, review_cost=2, currency="円"), **change}, language, home)

@pytest.fixture(scope="module", params=[pytest.param(l, marks=pytest.mark.slow) for l in ("en", "ja")])
def report(request, tmp_path_factory): return made_report(start, request.param, tmp_path_factory.mktemp("a {x ü "))

def test_five_files_and_a_page_of_its_own(report): check_page(report)

def test_one_language_and_no_bare_key(report): check_language(report)

def test_the_first_page_answers(report):
    html, r = read(report, "report.html"), results(report); first = words(html[:html.index(f"<h2>{say('report_evidence', report[0])}</h2>")])
    assert (say("order_next_yes", report[0]) in first) == r["promised"] and f"{len(r['orders'])}" in first
    for v in r["verdicts"]: assert v["text"] in first and v["next_step"] in first and f"{SIGNS[v['verdict']]} " in first

def test_piles_and_orders_agree_with_the_data(report):
    r = results(report); assert len(r["orders"]) == 30 and {o["record"] for o in r["orders"]} == {f"r{i} <b>" for i in range(30)}
    assert all(sorted(o["order"]) == list(range(5)) for o in r["orders"]) and all(o["unseen"] or not o["audit"] for o in r["orders"]) and r["promised"] == any(o["unseen"] for o in r["orders"])
    assert r["promised"] and any(o["audit"] for o in r["orders"]) and sum(o["unseen"] for o in r["orders"]) >= 5 and r["estimates"]["tau_a"]["low"] > .3 # verbs tell the order

def test_every_number_has_its_company(report):
    r = results(report)
    for e in [*r["estimates"].values(), *(c["gain"] for c in (*r["frontier"], *r["ablations"]) if c["gain"])]: assert {"value", "low", "high", "chance", "n", "higher_is"} <= set(e) and e["n"] > 0
    assert len(r["frontier"]) == 12 and len(r["ablations"]) == 6 and len(r["monitors"]) >= 10 and all(c["pays"] == (c["gain"] is not None and c["gain"]["low"] > 0) for c in r["frontier"])

def test_the_run_can_be_repeated(report):
    p = json.loads(read(report, "provenance.json")); given = read_config(report[1]/"parameters.yaml"); assert check_parameters("coherence", given).model_dump() == p["parameters"] and "mmkit poc run coherence" in read(report, "report.html")
    steps = report[2].stderr.strip().split("\n"); assert [s.split("]")[0] for s in steps] == [f"[{i}/{len(steps)}" for i in range(1, len(steps)+1)]

@pytest.mark.parametrize("width", (1280, 800))
def test_the_page_fits(report, browser, width):
    tab = browser.new_page(viewport={"width": width, "height": 1000}); asked = []; tab.on("request", lambda r: asked.append(r.url)); tab.goto((report[1]/"report.html").as_uri())
    assert [u for u in asked if not u.startswith(("file:", "data:"))] == [] and tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt.length > 5)"); tab.close()

@pytest.mark.slow
def test_one_modality_alone_has_a_report_without_advice(tmp_path):
    answer = run_report("coherence", dict(data=write_lines(tmp_path/"one.jsonl", 60, 15, second=False)), "en", tmp_path); assert answer.exit_code == 0, answer.output
    out = Path(answer.stdout.strip()).parent; r = json.loads((out/"results.json").read_text()); assert r["frontier"] == [] and r["used"] == {"a": "UM"} and "no second modality" in words((out/"report.html").read_text())

def test_what_cannot_be_read_is_refused_in_words(tmp_path):
    task = lambda **o: page.order_task(check_parameters("coherence", {k: str(v) if k == "data" else v for k, v in o.items()}))
    (tmp_path/"t.csv").write_text("record,text,position\nr,x,1\nr,y,2\n")
    with pytest.raises(InputError, match="hides none"): task(data=tmp_path/"t.csv")
    with pytest.raises(InputError, match="no column `side`"): task(data=tmp_path/"t.csv", modality_column="side")
    with pytest.raises(InputError, match="one list only"): task(data=write_lines(tmp_path/"s.jsonl", 12, 3), order="b")
    with pytest.raises(InputError, match="does not read"): check_parameters("coherence", dict(data=str(Path(page.__file__))))
    t = task(data=write_lines(tmp_path/"o.jsonl", 12, 3), second="photos"); assert t.known.sum() == 9 and t.truth is None

def test_partners_are_exchanged_as_often_as_said():
    class A: a_to_b = tuple(np.arange(6) for _ in range(400))
    for q in (1., .8, .2):
        new = page._spoilt(A, q, np.full(400, 6), np.random.default_rng(0)); assert np.mean([np.mean(x == np.arange(6)) for x in new]) == pytest.approx(q, abs=.03) and min(map(min, new)) >= 0 and max(map(max, new)) < 6
