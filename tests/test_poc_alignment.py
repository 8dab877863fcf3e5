"The alignment report from end to end: both languages, hostile names, several encoders, a KPI, and verdicts that agree with their numbers."
import json, re
from pathlib import Path
import numpy as np, pytest
from typer.testing import CliRunner
import mmkit.poc.run as runner
from mmkit.checks import InputError
from mmkit.cli import app
from mmkit.language import MESSAGES, say
from mmkit.poc import alignment as page
from mmkit.poc.parameters import SCHEMAS, check_parameters, encoder_name, fields, read_config
from mmkit.poc.report import faults
from mmkit.results import SIGNS
from conftest import made_report, read, results, run_report
from test_poc import IMAGE, SCRIPT, browser, words

SMALL = dict(columns_a="w1,w2", columns_b="h*", modality_a="写真 width", modality_b="height", label="kind", groups="shop", encoders_a="weak_*,middle_*,strong_*", encoders_b="tall_*", n_boot=50, n_null=50, enough=.99, point_value=100, project_cost=500, currency="円")

def write_table(path):
    "Three encoders of the first modality, from weak to strong; names and values carry markup."
    rng = np.random.default_rng(0); n = 160; y = rng.integers(0, 2, n); cause = rng.normal(size=(n, 3))+y[:, None]; see = lambda noise: cause+noise*rng.normal(size=(n, 3))
    x = np.hstack([see(1)[:, :2], see(.8), see(4), see(1.5), see(.3), see(.5), y[:, None]+rng.normal(size=(n, 1))])
    names = ["w1", "w2", *(f"{e}{i}" for e in ("h", "weak_", "middle_", "strong_", "tall_") for i in range(3)), "sales", "kind", "shop"]
    rows = [",".join([*(f"{v:.4f}" for v in r), ["cup", SCRIPT][k], [IMAGE, "b&b"][i % 2]]) for i, (r, k) in enumerate(zip(x, y))]
    path.write_text("\n".join([",".join(names), *rows])+"\n")
    return path

def start(home, language, **change): return run_report("alignment", {**SMALL, "data": write_table(home/"wares <b>.csv"), **change}, language, home)

@pytest.fixture(scope="module", params=[pytest.param(l, marks=pytest.mark.slow) for l in ("en", "ja")])
def report(request, tmp_path_factory): return made_report(start, request.param, tmp_path_factory.mktemp("a {x ü "))

# ---- the page

def test_five_files_and_a_page_of_its_own(report):
    html = read(report, "report.html"); assert sorted(p.name for p in report[1].iterdir()) == sorted(runner.FILES)
    assert faults(html) == [] and len(html.encode()) < 3_000_000 and f'<html lang="{report[0]}">' in html and html.count("data:image/png;base64,") >= 4
    assert "<script" not in html and "<img src=//" not in html and "&lt;img src=//evil.invalid" in html

def test_one_language_and_no_bare_key(report):
    text = words(read(report, "report.html")); japanese = re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", text.replace("写真", "").replace("円", ""))
    assert not re.search(r"\{\w*\}", text) and not set(re.findall(r"\w+", text)) & {k for k in MESSAGES if "_" in k}
    if report[0] == "en": assert not japanese
    else: assert len(japanese) > 800 and "判定" in text and "偶然水準" in text and "Verdict" not in text

def test_the_first_page_answers(report):
    html = read(report, "report.html"); text, r = words(html), results(report); first = words(html[:html.index(f"<h2>{say('report_evidence', report[0])}</h2>")])
    assert r["advice"][report[0]] in first and r["summary"][report[0]] in text and len(r["verdicts"]) == 9
    for v in r["verdicts"]: assert v["text"] in first and v["next_step"] in first and f"{v['estimate']['value']:.3f}" in first and f"{SIGNS[v['verdict']]} " in first

def test_verdicts_agree_with_their_numbers(report):
    for v in results(report)["verdicts"]:
        e, t = v["estimate"], v["threshold"]; assert e["low"] <= e["value"] <= e["high"] and e["n"] == 160
        if v["what"] == "alignment_beyond_chance": assert (v["verdict"] == "pass") == (e["p_value"] <= t); continue
        inside = e["low"] <= t <= e["high"]; assert (v["verdict"] == "not_enough_evidence") == inside, v["text"]

def test_numbers_for_machines(report):
    r = results(report); assert r["schema_version"] == 1 and {"observed", "calibrated"} == set(r["estimates"]) and set(r["baselines"]["single"]) == {"写真 width", "height"}
    assert set(r["ladder"]) >= {"rank_correlation", "top_gain", "pattern", "performance:strong"} and r["search"]["pair"][0] in ("weak", "middle", "strong") and r["explicit"]["decision"] in ("use_as_is", "measure", "invest")
    low, high = (r["ladder"][f"observed:{e}"]["value"] for e in ("weak", "strong")); assert low < high and r["trial"]["gain"]["unit"] == "points"
    b = r["baselines"]; assert b["gain"]["value"] == pytest.approx(b["both"]["value"]-max(e["value"] for e in b["single"].values()))

def test_every_number_has_its_company(report):
    def numbers(x):
        if isinstance(x, dict) and {"value", "low", "high"} <= set(x): yield x
        elif isinstance(x, dict): yield from (n for v in x.values() for n in numbers(v))
    r = results(report); found = [n for part in ("estimates", "baselines", "search", "axes", "trial", "explicit", "ladder") for n in numbers(r[part])]
    assert len(found) > 25 and all({"chance", "n", "higher_is"} <= set(n) and n["n"] > 0 for n in found)

def test_the_run_can_be_repeated(report):
    p = json.loads(read(report, "provenance.json")); given = read_config(report[1]/"parameters.yaml"); html = read(report, "report.html")
    assert check_parameters("alignment", given).model_dump() == p["parameters"] and "mmkit poc run alignment" in html and p["computation"]["fingerprint"]
    steps = report[2].stderr.strip().split("\n"); assert [s.split("]")[0] for s in steps] == [f"[{i}/{len(steps)}" for i in range(1, len(steps)+1)]

@pytest.mark.parametrize("width", (1280, 800))
def test_the_page_fits(report, browser, width):
    tab = browser.new_page(viewport={"width": width, "height": 1000}); asked = []; tab.on("request", lambda r: asked.append(r.url)); tab.goto((report[1]/"report.html").as_uri())
    assert [u for u in asked if not u.startswith(("file:", "data:"))] == [] and tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt.length > 20)") and tab.evaluate("[...document.querySelectorAll('table')].every(t => t.getBoundingClientRect().right <= innerWidth)")
    tab.close()

# ---- other roads through the template

@pytest.mark.slow
def test_a_kpi_without_several_encoders_and_without_a_trial(tmp_path):
    answer = start(tmp_path, "en", kpi="sales", encoders_a=None, encoders_b=None, trial="none", enough=None, point_value=None, project_cost=None); assert answer.exit_code == 0, answer.output
    folder = Path(answer.stdout.strip()).parent; r = json.loads((folder/"results.json").read_text()); text = words((folder/"report.html").read_text())
    assert r["baselines"]["measure"] == "r2" and r["ladder"] is None and r["search"] is None and r["trial"] is None and "fewer than 3 encoders" in text and "held-out R²" in text and len(r["verdicts"]) == 6

@pytest.mark.slow
def test_a_row_without_label_and_a_missing_cell_are_left_out(tmp_path):
    data = write_table(tmp_path/"t.csv"); lines = data.read_text().split("\n"); lines[1] = ","+lines[1].split(",", 1)[1]; cut = lines[2].rsplit(",", 2); lines[2] = f"{cut[0]},,{cut[2]}"; data.write_text("\n".join(lines))
    s = page.alignment_records(check_parameters("alignment", {k: v for k, v in SMALL.items() if k not in ("columns_a",)} | dict(data=str(data), columns_a="w1")))
    assert len(s.records) == 158 and {len(x) for x in (*s.encoders_a.values(), *s.encoders_b.values())} == {158} and list(s.encoders_a) == ["weak", "middle", "strong"]

def test_an_npz_file_of_features(tmp_path):
    rng = np.random.default_rng(0); path = tmp_path/"f.npz"; np.savez(path, image=rng.normal(size=(60, 3)), text=rng.normal(size=(60, 4)), old=rng.normal(size=(60, 2)), new=rng.normal(size=(60, 2)), kind=np.array(list("ab")*30), price=rng.normal(size=60))
    s = page.alignment_records(check_parameters("alignment", dict(data=str(path), label="kind", encoders_a="old,new", kpi="price")))
    assert list(s.encoders_a) == ["old", "new"] and list(s.encoders_b) == ["text"] and s.kpi.shape == (60,) and s.labels is None
    with pytest.raises(InputError, match="is not known"): page.alignment_records(check_parameters("alignment", dict(data=str(path), label="kind", encoders_a="oldest")))

def test_many_records_are_drawn_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST", 40); rng = np.random.default_rng(0); path = tmp_path/"f.npz"; np.savez(path, image=rng.normal(size=(60, 3)), text=rng.normal(size=(60, 4)), kind=np.array(list("ab")*30))
    with pytest.warns(UserWarning, match="40 of 60 records were drawn"): s = page.alignment_records(check_parameters("alignment", dict(data=str(path), label="kind")))
    assert len(s.records) == 40

@pytest.mark.parametrize("share, condition, outside", ((.2, 3., False), (.42, .4, True), (.2, .4, True)))
def test_data_outside_the_map_are_said_to_be(share, condition, outside):
    from types import SimpleNamespace
    from mmkit.poc.report import Report
    from mmkit.results import Estimate, new_axes
    e = lambda v: Estimate(v, v-.1, v+.1, 0., 99); axes = SimpleNamespace(quantities={"redundancy_share": e(share)}, conditioning=e(condition), nearest=lambda: [{"alignment": .25}, {"alignment": .5}], plot=lambda language: new_axes())
    html = page.axes_figure(Report("alignment", check_parameters("alignment", {})), axes).data
    assert "between 0.25 and 0.50" in html and ("outside the simulated worlds" in html) == outside

# ---- what is refused before anything starts

BAD = {"no such encoder": (dict(encoders_a="lite0_blok9"), "Did you mean `lite0_block9`"), "an encoder of the other side": (dict(encoders_b="lite0"), "encoders_b"), "twice": (dict(encoders_a="lite0,lite0"), "twice"), "markup": (dict(encoders_a="<b>"), "column names"),
       "code": (dict(k="__import__('os')"), "whole number from 1"), "format": (dict(currency="{seed}"), "must be a name"), "negative price": (dict(project_cost=-1), "from 0"), "not finite": (dict(point_value="inf"), "number from 0"), "share": (dict(enough=80), "from 0 to 1"),
       "score without interval": (dict(metric="svcca"), "one of"), "misspelt score": (dict(metric="mutual_kn"), "mutual_knn"), "two KPIs": (dict(kpi="a,b"), "bundled set"), "family of digits": (dict(data="digits", modality_a="mor", modality_b="zer", label="digit", families="drop"), "only emoji"),
       "parameter of another report": (dict(clusters=3), "not a parameter of `alignment`"), "third modality": (dict(in_use="c"), "one of `a`, `b`")}

@pytest.mark.parametrize("given, message", BAD.values(), ids=BAD)
def test_refused(given, message, tmp_path):
    answer = CliRunner().invoke(app, ["poc", "run", "alignment", *(w for k, v in given.items() for w in ("-p", f"{k}={v}")), "--out", str(tmp_path/"r")])
    assert answer.exit_code == 2 and message in answer.stderr and answer.stdout == "" and "Traceback" not in answer.stderr and not (tmp_path/"r").exists()

def test_an_encoder_must_not_be_called_like_something_else(tmp_path):
    data = write_table(tmp_path/"t.csv")
    for change, words_ in ((dict(encoders_a="kind"), "like the label"), (dict(encoders_a="height_*"), "like a modality"), (dict(encoders_a="sales", kpi="sales"), "like the KPI"), (dict(kpi="sales,h1"), "names 2 columns"), (dict(families="drop"), "only emoji")):
        with pytest.raises(InputError, match=words_): check_parameters("alignment", {**SMALL, "data": str(data), **change})

def test_parameters_and_messages_do_not_share_names():
    assert not {n for t in SCHEMAS for n in fields(t)} & {k for k in MESSAGES if "_" in k}

def test_names_of_encoders(): assert [encoder_name(c) for c in ("small_*", "*", "vit_b16", "層.*")] == ["small", "*", "vit_b16", "層"]
