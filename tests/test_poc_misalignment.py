"The misalignment report from end to end: both languages, hostile names, planted errors, a site that shifts, and verdicts that agree with their numbers."
import json, re
from pathlib import Path
import numpy as np, pytest
from typer.testing import CliRunner
import mmkit.poc.run as runner
from mmkit.checks import InputError
from mmkit.cli import app
from mmkit.language import MESSAGES, say
from mmkit.misalignment.decide import compare_arms
from mmkit.poc import misalignment as page
from mmkit.poc.parameters import ParameterError, SCHEMAS, check_parameters, fields, read_config
from mmkit.poc.report import faults
from mmkit.results import SIGNS
from conftest import made_report, read, results, run_report
from test_poc import IMAGE, SCRIPT, browser, words

SMALL = dict(columns_a="w*", columns_b="note", modality_a="写真 width", modality_b="note", confirmed="checked", omit="style", point_value=100, relabel_cost=2, check_cost=1, pair_cost=5, currency="円")

def write_table(path, n=160):
    "Numbers and captions that fit, one caption in four swapped; a site, a style and a column of confirmed pairs; names and values carry markup."
    rng = np.random.default_rng(0); y = rng.integers(0, 6, n); style = rng.integers(0, 2, n); x = np.eye(6)[y]+.3*rng.normal(size=(n, 6)); what = ["cup", "jar", SCRIPT, "bowl", "vase", "plate"]
    says = y.copy(); bad = np.flatnonzero(rng.random(n) < .25); says[bad] = y[np.roll(bad, 1)]
    rows = [",".join([*(f"{v:.4f}" for v in r), f"{('plain', 'ornate')[s]} {what[k]} number {i % 9}", [IMAGE, "north"][i % 2], ("plain", "ornate")[s], str(int(i not in bad and i % 3 != 0)), what[t], f"{v:.3f}"])
            for i, (r, s, k, t, v) in enumerate(zip(x, style, says, y, x[:, 0]))]
    path.write_text("\n".join([",".join([*(f"w{i}" for i in range(6)), "note", "site", "style", "checked", "kind", "sales"]), *rows])+"\n")
    return path

def start(home, language, **change): return run_report("misalignment", {**SMALL, "data": write_table(home/"wares <b>.csv"), **change}, language, home)

@pytest.fixture(scope="module", params=[pytest.param(l, marks=pytest.mark.slow) for l in ("en", "ja")])
def report(request, tmp_path_factory): return made_report(start, request.param, tmp_path_factory.mktemp("a {x ü "))

# ---- the page

def test_five_files_and_a_page_of_its_own(report):
    html = read(report, "report.html"); assert sorted(p.name for p in report[1].iterdir()) == sorted(runner.FILES)
    assert faults(html) == [] and len(html.encode()) < 3_000_000 and f'<html lang="{report[0]}">' in html and html.count("data:image/png;base64,") >= 2
    assert "<script" not in html and "<img src=//" not in html

def test_one_language_and_no_bare_key(report):
    text = words(read(report, "report.html")); japanese = re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", text.replace("写真", "").replace("円", ""))
    assert not re.search(r"\{\w*\}", text) and not set(re.findall(r"\w+", text)) & {k for k in MESSAGES if "_" in k}
    if report[0] == "en": assert not japanese
    else: assert len(japanese) > 800 and "判定" in text and "偶然水準" in text and "Verdict" not in text

def test_the_first_page_answers(report):
    html = read(report, "report.html"); text, r = words(html), results(report); first = words(html[:html.index(f"<h2>{say('report_evidence', report[0])}</h2>")])
    assert r["summary"][report[0]] in first and r["verdict"] in ("mitigate", "exploit", "leave", "not_enough_evidence") and say(f"decide_{r['verdict']}", report[0], arm="@", today="@").split("@")[0].rstrip(" .:。：") in first
    for v in r["verdicts"]: assert v["text"] in first and v["next_step"] in first and f"{v['estimate']['value']:.3f}" in first and f"{SIGNS[v['verdict']]} " in first

def test_verdicts_agree_with_their_numbers(report):
    r = results(report)
    for v in r["verdicts"]:
        e, t = v["estimate"], v["threshold"]; assert e["low"] <= e["value"] <= e["high"]; inside = e["low"] <= t <= e["high"]; assert (v["verdict"] == "not_enough_evidence") == inside, v["text"]
    state = {n: o["state"] for n, o in r["options"].items()}; acts = r["verdict"] in ("mitigate", "exploit"); assert acts == ("above" in state.values()) and (r["verdict"] == "leave") == (set(state.values()) == {"below"})
    for n, o in r["options"].items(): g = r["arms"][n]["gain"]; assert o["net"]["value"] == pytest.approx(100*g["value"]-o["cost"]) and o["threshold"] == pytest.approx(o["cost"]/100)
    assert r["options"]["repair"]["cost"] == pytest.approx(2*r["arms"]["repair"]["pairs"])

def test_numbers_for_machines(report):
    r = results(report); assert r["schema_version"] == 1 and set(r["arms"]) == {"filter", "weight", "repair", "omit:style"} and r["scored_on"] == "scored_trusted" and sum(r["kinds"].values()) == 160
    assert r["diagnosis"]["wrong_rate"]["n"] == 160 and len(r["curve"]) >= 8 and len(r["arms"]["omit:style"]["readable"]) == 2 and r["counts"]["scored"] < 120 and r["chosen"]["unit"] == "points"

def test_every_number_has_its_company(report):
    def numbers(x):
        if isinstance(x, dict) and {"value", "low", "high"} <= set(x): yield x
        elif isinstance(x, (dict, list)): yield from (n for v in (x.values() if isinstance(x, dict) else x) for n in numbers(v))
    found = [n for part in ("estimates", "diagnosis", "arms", "options", "curve") for n in numbers(results(report)[part])]
    assert len(found) > 15 and all({"chance", "n", "higher_is"} <= set(n) and n["n"] > 0 for n in found)

def test_the_run_can_be_repeated(report):
    p = json.loads(read(report, "provenance.json")); given = read_config(report[1]/"parameters.yaml"); html = read(report, "report.html")
    assert check_parameters("misalignment", given).model_dump() == p["parameters"] and "mmkit poc run misalignment" in html and p["computation"]["fingerprint"]
    steps = report[2].stderr.strip().split("\n"); assert [s.split("]")[0] for s in steps] == [f"[{i}/{len(steps)}" for i in range(1, len(steps)+1)]

@pytest.mark.parametrize("width", (1280, 800))
def test_the_page_fits(report, browser, width):
    tab = browser.new_page(viewport={"width": width, "height": 1000}); asked = []; tab.on("request", lambda r: asked.append(r.url)); tab.goto((report[1]/"report.html").as_uri())
    assert [u for u in asked if not u.startswith(("file:", "data:"))] == [] and tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt.length > 5)") and tab.evaluate("[...document.querySelectorAll('table')].every(t => t.getBoundingClientRect().right <= innerWidth)")
    tab.close()

# ---- other roads through the template

@pytest.mark.slow
def test_a_label_at_another_site_without_prices(tmp_path):
    free = dict(task="label", label="kind", confirmed=None, omit=None, point_value=None, relabel_cost=None, check_cost=None, pair_cost=None)
    answer = start(tmp_path, "en", split="site", **free); assert answer.exit_code == 2 and "has 2 values, but 5 folds" in answer.stderr and "`target`" in answer.stderr and "Traceback" not in answer.stderr
    answer = start(tmp_path, "en", split="site", target="north", **free); assert answer.exit_code == 0, answer.output
    folder = Path(answer.stdout.strip()).parent; r = json.loads((folder/"results.json").read_text()); assert r["scored_on"] == "scored_labels" and r["counts"]["scored"] == 80 and set(r["estimates"]) == {"gain", "wrong_rate"} and r["options"]["filter"]["net"] is None

def test_the_template_holds_the_schema():
    from mmkit.poc.parameters import parameters_cell
    import nbformat
    cell = next(c for c in nbformat.read(runner.template_path("misalignment"), 4).cells if "parameters" in c.metadata.get("tags", [])); assert cell.source == parameters_cell("misalignment")

def test_records_of_a_table(tmp_path):
    p = check_parameters("misalignment", {**SMALL, "data": str(write_table(tmp_path/"t.csv")), "task": "kpi", "kpi": "sales"}); r = page.misalignment_records(p)
    assert set(r.groups) == {"style", "checked"} and r.modalities["note"].dtype == object and page.confirmed_mask(r, p).sum() > 60 and page.arm_options(p, r)["kpi"].shape == (160,) and page.factor_words(p) is None
    x = compare_arms(r, **page.arm_options(p, r)|dict(repeats=1, folds=3, arms="weight")); assert x.task == "kpi" and {a.name for a in x.arms} == {"weight", "omit:style"}

@pytest.mark.parametrize("value, yes", (("1", True), ("1.0", True), ("True", True), ("○", True), ("済", True), ("はい", True), ("0", False), ("", False), ("no", False), ("nan", False)))
def test_what_counts_as_confirmed(value, yes): assert (value.strip().casefold() in page.YES) == yes

def test_every_phrase_in_both_languages():
    for k in MESSAGES:
        if k.startswith(("phrase_wrong", "phrase_arm", "phrase_over", "phrase_stage", "phrase_wait", "misalignment_", "experiment_", "decide_")): assert set(MESSAGES[k]) == {"en", "ja"} and MESSAGES[k]["ja"] != MESSAGES[k]["en"]

# ---- what is refused before anything starts

BAD = {"missing price": (dict(point_value=10), "captioning one pair again"), "value missing": (dict(check_cost=1), "what one point earns"), "negative price": (dict(relabel_cost=-1), "from 0"), "not finite": (dict(point_value="inf"), "number from 0"), "share": (dict(swapped=20), "from 0 to 0.9"),
       "unknown arm": (dict(arms="fliter"), "one of `data`, `all`"), "label missing": (dict(task="label"), "no `label`"), "kpi of a bundled set": (dict(task="kpi", kpi="x"), "bundled set"), "target alone": (dict(target="Osaka"), "needs `split`"), "factor": (dict(omit="hat"), "tone, gender or role"),
       "markup": (dict(omit="<b>"), "column names"), "code": (dict(candidates="__import__('os')"), "whole number from 1"), "format": (dict(currency="{seed}"), "must be a name"), "parameter of another report": (dict(clusters=3), "not a parameter of `misalignment`"), "misspelt": (dict(relable_cost=3), "relabel_cost")}

@pytest.mark.parametrize("given, message", BAD.values(), ids=BAD)
def test_refused(given, message, tmp_path):
    answer = CliRunner().invoke(app, ["poc", "run", "misalignment", *(w for k, v in given.items() for w in ("-p", f"{k}={v}")), "--out", str(tmp_path/"r")])
    assert answer.exit_code == 2 and message in answer.stderr and answer.stdout == "" and "Traceback" not in answer.stderr and not (tmp_path/"r").exists()

def test_parameters_and_messages_do_not_share_names():
    assert not {n for t in SCHEMAS for n in fields(t)} & {k for k in MESSAGES if "_" in k}

def test_one_column_each(tmp_path):
    data = str(write_table(tmp_path/"t.csv"))
    for k in ("split", "confirmed", "kpi"):
        with pytest.raises(ParameterError, match=f"`{k}` names 2 columns"): check_parameters("misalignment", {**SMALL, "data": data, "task": "kpi" if k == "kpi" else "retrieval", k: "site,style"})
