"Reports from end to end: the page, the five files, and what failures leave behind."
import json, os, re, signal, subprocess, sys, time
from html.parser import HTMLParser
from pathlib import Path
import nbformat, numpy as np, pytest
from nbformat.v4 import new_code_cell, new_notebook
from typer.testing import CliRunner
import mmkit.poc.run as runner
from mmkit.checks import InputError
from mmkit.cli import app
from mmkit.language import MESSAGES
from mmkit.poc.parameters import SCHEMAS, check_parameters, fields, parameters_cell, read_config
from mmkit.poc.report import faults
from conftest import ROOT

# ---- the template and its schema

@pytest.mark.parametrize("template", SCHEMAS)
def test_the_parameters_cell_is_the_schema(template):
    cell, = [c for c in nbformat.read(runner.template_path(template), 4).cells if "parameters" in c.metadata.get("tags", [])]
    assert cell.source == parameters_cell(template), "Write the cell anew with mmkit.poc.parameters.parameters_cell."

@pytest.mark.parametrize("template", SCHEMAS)
def test_papermill_sees_every_parameter_with_type_and_meaning(template):
    import papermill
    seen = papermill.inspect_notebook(runner.template_path(template))
    assert list(seen) == list(fields(template)) and all(p["inferred_type_name"] != "None" and p["help"] for p in seen.values())

# ---- one small run in each language; the data carry markup wherever a user can put text

SCRIPT, IMAGE = "<script>alert(1)</script>", "<img src=//evil.invalid/x onerror=alert(1)>"
SMALL = dict(columns_a="w*", columns_b="h1,h2", modality_a="width", modality_b="height", label="kind", groups="shop", clusters=3, n_boot=50, n_null=50)

def write_table(path):
    rng = np.random.default_rng(0); y = rng.integers(0, 2, 160)
    x = rng.normal(size=(160, 4)) + 1.5*y[:, None]
    rows = [",".join([*(f"{v:.4f}" for v in r), ["cup", SCRIPT][k], [IMAGE, "b&b"][i % 2]]) for i, (r, k) in enumerate(zip(x, y))]
    path.write_text("\n".join(["w1,w2,h1,h2,kind,shop", *rows]) + "\n")
    return path

@pytest.fixture(scope="module", params=[pytest.param(l, marks=pytest.mark.slow) for l in ("en", "ja")])
def report(request, tmp_path_factory):
    "(language, folder, printed, steps) of a run that was started like a user starts it, in a folder with an awkward name."
    home = tmp_path_factory.mktemp("a {x ü ") ; data = write_table(home/"wares <b>.csv")
    words = [w for k, v in {**SMALL, "data": data}.items() for w in ("-p", f"{k}={v}")]
    answer = CliRunner().invoke(app, ["poc", "run", "interactions", *words, "--language", request.param, "--out", str(home/"reports")])
    assert answer.exit_code == 0, answer.output
    return request.param, Path(answer.stdout.strip().split("\n")[-1]).parent, answer

def read(report, name): return (report[1]/name).read_text(encoding="utf8")

def test_exactly_five_files_and_nothing_beside_them(report):
    assert sorted(p.name for p in report[1].iterdir()) == sorted(runner.FILES)
    assert [p.name for p in report[1].parent.iterdir()] == [report[1].name] and report[1].is_absolute()

def test_the_terminal_stays_quiet(report):
    steps = report[2].stderr.strip().split("\n")
    assert len(steps) > 3 and [s.split("]")[0] for s in steps] == [f"[{i}/{len(steps)}" for i in range(1, len(steps)+1)] and len(report[2].stdout.strip().split("\n")) == 1

def test_the_page_is_self_contained(report):
    page = read(report, "report.html")
    assert faults(page) == [] and len(page.encode()) < 3_000_000 and f'<html lang="{report[0]}">' in page and "data:image/png;base64," in page

def test_user_text_is_text(report):
    page = read(report, "report.html")
    assert "<script" not in page and "<img src=//" not in page and "&lt;img src=//evil.invalid" in page

class Words(HTMLParser):
    "The text of a page without style, code and the command."
    def __init__(self): super().__init__(); self.skip, self.text = [], []
    def handle_starttag(self, tag, a): self.skip += [tag] if tag in ("style", "details", "pre", "title") else []
    def handle_endtag(self, tag): self.skip = self.skip[:-1] if self.skip[-1:] == [tag] else self.skip
    def handle_data(self, data): self.text += [] if self.skip else [data]

def words(page): w = Words(); w.feed(page); return " ".join(w.text)

def check_page(report):
    "Five files, and a page that needs nothing else and runs nothing; for the reports of several templates."
    html = read(report, "report.html"); assert sorted(p.name for p in report[1].iterdir()) == sorted(runner.FILES)
    assert faults(html) == [] and len(html.encode()) < 3_000_000 and f'<html lang="{report[0]}">' in html and html.count("data:image/png;base64,") >= 2 and "<script" not in html and "<img src=//" not in html

def check_language(report):
    "The page is in one language, and every message was found."
    text = words(read(report, "report.html")); japanese = re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", text.replace("円", ""))
    assert not re.search(r"\{\w*\}", text) and not set(re.findall(r"\w+", text)) & {k for k in MESSAGES if "_" in k}
    if report[0] == "en": assert not japanese
    else: assert len(japanese) > 600 and "判定" in text and "偶然水準" in text and "Verdict" not in text

def test_the_page_speaks_one_language(report):
    text = words(read(report, "report.html"))
    assert not re.search(r"\{\w*\}", text) and not set(re.findall(r"\w+", text)) & {k for k in MESSAGES if "_" in k}  # no hole, no bare key
    japanese = re.findall(r"[\u3040-\u30ff\u4e00-\u9fff]", text)
    if report[0] == "en": assert not japanese
    else: assert len(japanese) > 500 and "判定" in text and "偶然水準" in text and "Verdict" not in text

def test_the_first_page_answers(report):
    text = words(read(report, "report.html")); results = json.loads(read(report, "results.json"))
    assert results["summary"][report[0]] in text and "width" in text and "height" in text
    first = text[:text.index({"en": "Evidence", "ja": "根拠"}[report[0]])]
    for verdict in results["verdicts"]: assert verdict["text"] in first and verdict["next_step"] in first and f"{verdict['estimate']['value']:.3f}" in first

def test_code_is_folded_and_the_command_repeats_the_run(report):
    page = read(report, "report.html")
    assert page.count("<details>") == 1 and page.index("<details>") > page.index("mmkit poc run interactions") and "quantify_interactions" in page.split("<details>")[1]

def strict(text):
    def refuse(name): raise AssertionError(f"{name} is not JSON")
    return json.loads(text, parse_constant=refuse)

def test_numbers_for_machines(report):
    results = strict(read(report, "results.json"))
    assert results["schema_version"] == 1 and results["run_id"] == report[1].name and results["parameters"]["clusters"] == 3
    assert {"unique_a", "unique_b", "redundancy"} <= set(results["estimates"])
    for e in results["estimates"].values(): assert {"value", "low", "high", "chance", "n"} <= set(e) and e["n"] == 160
    assert results["verdicts"] and all(v["verdict"] in ("pass", "warn", "fail", "not_enough_evidence") for v in results["verdicts"])

def test_provenance_and_parameters(report):
    p = strict(read(report, "provenance.json")); given = read_config(report[1]/"parameters.yaml")
    assert p["run_id"] == report[1].name and p["computation"]["fingerprint"] and p["versions"]["mmkit"] and p["seconds"] > 0
    assert check_parameters("interactions", given).model_dump() == p["parameters"] and "language" in p["chosen"] or report[0] == "en"

def test_the_notebook_forgets_where_it_was_built(report):
    nb = nbformat.read(report[1]/"report.ipynb", 4)
    assert ".part" not in read(report, "report.ipynb") and nb.metadata.papermill.output_path == "report.ipynb"
    assert not [o for c in nb.cells for o in c.get("outputs", []) if o.output_type in ("error", "stream")]

# ---- mistakes that only the kernel can notice

@pytest.mark.slow
def test_one_class_only_is_one_sentence(tmp_path):
    data = tmp_path/"t.csv"; data.write_text("a,b,kind\n" + "".join(f"{i},{i*i % 7},cup\n" for i in range(50)))
    answer = CliRunner().invoke(app, ["poc", "run", "interactions", "-p", f"data={data}", "-p", "columns_a=a", "-p", "columns_b=b", "-p", "label=kind", "--out", str(tmp_path/"out")])
    assert answer.exit_code == 2 and "same `kind`" in answer.stderr and "Traceback" not in answer.output and answer.stdout == ""
    assert list((tmp_path/"out/interactions").iterdir()) == []

def test_a_damaged_file_is_one_sentence(tmp_path):
    from mmkit.poc.interactions import records_for
    data = tmp_path/"cut.npz"; np.savez(data, image=np.zeros((9, 2)), text=np.zeros((9, 2))); data.write_bytes(data.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be read"): records_for(check_parameters("interactions", {"data": str(data)}))

# ---- failures, with small templates of our own

SAVE = "import json, os, sys, pathlib; folder = pathlib.Path(os.environ['MMKIT_RUN_FOLDER'])\n"

@pytest.fixture
def template(monkeypatch, tmp_path):
    "A template that consists of one cell."
    def make(source):
        path = tmp_path/"interactions.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell("seed: int = 0", metadata={"tags": ["parameters"]}), new_code_cell(SAVE + source)]), path)
        monkeypatch.setattr(runner, "template_path", lambda name: path)
        return path
    return make

def visible(out): return sorted(p.name for p in (out/"interactions").iterdir() if not p.name.startswith("."))

@pytest.mark.slow
def test_a_failing_template_leaves_no_report(template, tmp_path):
    template("(folder/'results.json').write_text('{}'); raise KeyError('<b>lost')")
    answer = CliRunner().invoke(app, ["poc", "run", "interactions", "--out", str(tmp_path)])
    left, = visible(tmp_path)
    assert answer.exit_code == 1 and left.endswith("-failed") and answer.stdout == "" and "Traceback" not in answer.stderr
    assert "cell 3: KeyError: '<b>lost'" in answer.stderr and f"{left}/report.ipynb" in answer.stderr and (tmp_path/"interactions"/left/"report.ipynb").is_file()
    assert not (tmp_path/"interactions"/left/"report.html").exists()

BROKEN = {"no results": ("1", "no results.json"), "not JSON": ("(folder/'results.json').write_text('{\"a\": NaN}')", "NaN"), "cut off": ("(folder/'results.json').write_text('{')", "JSONDecodeError"),
          "a script": ("from IPython.display import HTML; (folder/'results.json').write_text('{}'); display(HTML('<script>1</script>'))", "not self-contained"),
          "dead kernel": ("os._exit(3)", "DeadKernelError")}

@pytest.mark.slow
@pytest.mark.parametrize("source, message", BROKEN.values(), ids=BROKEN)
def test_an_incomplete_report_is_no_report(source, message, template, tmp_path):
    template(source)
    with pytest.raises(runner.RunError, match=message): runner.run("interactions", {}, tmp_path)
    left, = visible(tmp_path)
    assert left.endswith("-failed")

@pytest.mark.slow
def test_the_kernel_is_this_python(template, tmp_path, monkeypatch):
    rogue = tmp_path/"jupyter/kernels/python3"; rogue.mkdir(parents=True)
    (rogue/"kernel.json").write_text(json.dumps(dict(argv=["/bin/false", "{connection_file}"], display_name="rogue", language="python")))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path/"jupyter"))
    template("(folder/'results.json').write_text(json.dumps({'python': sys.executable, 'folder': os.getcwd()}))"); monkeypatch.chdir(tmp_path)
    folder = runner.run("interactions", {}, "out")
    assert json.loads((folder/"results.json").read_text()) == {"python": sys.executable, "folder": str(tmp_path)}

@pytest.mark.slow
def test_nothing_from_the_working_folder_or_the_home_is_run(template, tmp_path, monkeypatch):
    home = tmp_path/"home/profile_default/startup"; home.mkdir(parents=True); monkeypatch.setenv("IPYTHONDIR", str(tmp_path/"home"))
    for planted in (tmp_path/"colorsys.py", tmp_path/"json.py", home/"00-first.py"): planted.write_text("open('planted', 'w')")
    template("import colorsys; (folder/'results.json').write_text('{}')"); monkeypatch.chdir(tmp_path)
    runner.run("interactions", {}, "out")
    assert not (tmp_path/"planted").exists()

def test_an_unusable_folder_is_a_sentence(tmp_path):
    (tmp_path/"file").write_text("")
    with pytest.raises(InputError, match="cannot be used for reports"): runner.run("interactions", {}, tmp_path/"file")

def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition(): return found
        time.sleep(.05)
    raise AssertionError("waited in vain")

def alive(pid):
    try: os.kill(pid, 0)
    except ProcessLookupError: return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text() if Path(f"/proc/{pid}/status").exists() else True

@pytest.mark.slow
@pytest.mark.parametrize("how", (signal.SIGKILL, signal.SIGINT))
def test_a_killed_run_leaves_no_report(how, template, tmp_path):
    path = template("(folder/'pid').write_text(str(os.getpid())); import time; time.sleep(120)")
    code = f"import mmkit.poc.run as r, pathlib; r.template_path = lambda name: pathlib.Path({str(path)!r}); r.run('interactions', {{}}, {str(tmp_path/'out')!r})"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        pid = int(wait_for(lambda: [t for p in tmp_path.glob("out/interactions/.*.part/pid") if (t := p.read_text())])[0])
        child.send_signal(how); child.wait(60)
    finally: child.kill()
    assert visible(tmp_path/"out") == []
    wait_for(lambda: not alive(pid), 30)  # no orphan keeps computing
    if how == signal.SIGINT: assert list((tmp_path/"out/interactions").iterdir()) == []

# ---- as a reader sees it: a real browser, without network

@pytest.fixture(scope="module")
def browser():
    "Debian's Chromium under Playwright; the tests are skipped, in words, where it is not installed."
    import shutil
    from playwright.sync_api import sync_playwright
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program: pytest.skip("no Chromium on this machine (apt-get install chromium): the page was not opened")
    with sync_playwright() as p:
        opened = p.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        yield opened
        opened.close()

@pytest.mark.parametrize("width", (1280, 800))
def test_the_page_fits_and_asks_nobody(report, browser, width, tmp_path):
    page = browser.new_page(viewport={"width": width, "height": 1000}); asked, said = [], []
    page.on("request", lambda r: asked.append(r.url)); page.on("console", lambda m: said.append(m.text)); page.on("dialog", lambda d: said.append(d.message))
    page.goto((report[1]/"report.html").as_uri())
    assert [u for u in asked if not u.startswith(("file:", "data:"))] == [] and said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    assert page.evaluate("document.documentElement.lang") == report[0]
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0 && i.alt.length > 20)") and page.evaluate("document.images.length") > 0
    assert page.evaluate("[...document.querySelectorAll('details')].every(d => !d.open)"), "code is not folded"
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.querySelector('th[scope=col]') && t.getBoundingClientRect().right <= innerWidth)"), "a table is cut off"
    assert page.evaluate("document.querySelectorAll('script').length") == 0
    page.close()
