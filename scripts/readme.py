"""Write README.md and its pictures from index.ipynb; with `--check`, only compare and say how to mend."""
import re, sys
from pathlib import Path
import nbformat
from nbconvert import MarkdownExporter
from nbdev.process import extract_directives
from traitlets.config import Config

ROOT, PICTURES = Path(__file__).resolve().parent.parent, "docs/img"
PRIORITY = ["image/png", "text/html", "text/markdown", "text/plain"]
TEMPLATE = """{% extends 'markdown/index.md.j2' %}
{% block data_png %}
![{{ cell.metadata.alt }}]({{ output.metadata.filenames['image/png'] }})
{% endblock %}"""

def prepare(nb):
    "Obey `#| hide`, `#| echo: false` and `#| fig-alt: …`; no directive reaches the page."
    nb.metadata.language_info = {"name": "python"}  # nbdev_clean takes it away, and code without a language is shown without colours
    nb.cells = [cell for cell in nb.cells if cell.cell_type != "code" or "hide" not in extract_directives(cell, remove=False)]
    for cell in nb.cells:
        said = extract_directives(cell, remove=False) if cell.cell_type == "code" else {}
        cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M).strip()
        cell.metadata.update(alt=" ".join(said.get("fig-alt:", [])), transient={"remove_source": said.get("echo:") == ["false"]})
        for output in cell.get("outputs", []): prepare_output(cell, output.get("data", {}))
    return nb

def prepare_output(cell, data):
    "Markdown ends an HTML block at an empty line, and shows a style sheet as text."
    if "image/png" in data and not cell.metadata.alt: raise SystemExit(f"A picture has no text for those who cannot see it. Add `#| fig-alt: …` to this cell:\n{cell.source}")
    if "text/html" in data: data["text/html"] = re.sub(r"\n\s*\n", "\n", re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.S)).strip()

def page(
    notebook:Path, # an executed notebook
)->dict: # path below the repository -> bytes
    "The notebook as Markdown, and the pictures that the Markdown shows."
    config = Config({"NbConvertBase": {"display_data_priority": PRIORITY}, "ExtractOutputPreprocessor": {"extract_output_types": {"image/png"}}})
    exporter = MarkdownExporter(config=config, raw_template=TEMPLATE)
    text, resources = exporter.from_notebook_node(prepare(nbformat.read(notebook, 4)), {"unique_key": notebook.stem, "output_files_dir": PICTURES})
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.split("\n"))).strip() + "\n"
    return {"README.md": text.encode()} | {Path(k).as_posix(): v for k, v in resources["outputs"].items()}

def main(check:bool):
    files = page(ROOT/"index.ipynb")
    stale = [p for p in (ROOT/PICTURES).glob("index_*") if p.relative_to(ROOT).as_posix() not in files]
    changed = [name for name, data in files.items() if not (ROOT/name).exists() or (ROOT/name).read_bytes() != data]
    if check:
        for name in changed + [p.relative_to(ROOT).as_posix() for p in stale]: print(f"{name} does not match index.ipynb.")
        if changed or stale: raise SystemExit("Run `make readme` and commit the result.")
        return
    for p in stale: p.unlink()
    for name in changed:
        (ROOT/name).parent.mkdir(parents=True, exist_ok=True); (ROOT/name).write_bytes(files[name]); print(f"wrote {name}")

if __name__ == "__main__": main("--check" in sys.argv[1:])
