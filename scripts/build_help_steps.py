#!/usr/bin/env python
"""Rebuild the bundled step lists (mmkit/data/archives/help_steps*): numbered instructions of the LibreOffice help in English and Japanese.

Needs a Debian 12 system (apt-get and dpkg-deb) and network for the download; the packages are not installed.
The same packages give the same bytes; `--check` compares them with what is shipped.
"""
import argparse, hashlib, html.parser, io, json, lzma, os, re, subprocess, sys, tarfile, tempfile
from pathlib import Path

ARCHIVES = Path(__file__).resolve().parents[1]/"mmkit"/"data"/"archives"
VERSION = "4:7.4.7-1+deb12u14"
PACKAGES = {  # Debian package -> sha256
    "libreoffice-help-en-us": "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
    "libreoffice-help-ja": "7799ace9bfe0845771ed2499913e7f7e521318cf3727c007672e3b020f8eb7b9",
}
LANGUAGES = {"en": ("libreoffice-help-en-us", "en-US"), "ja": ("libreoffice-help-ja", "ja")}
SHORTEST, LONGEST, RECORDS, STEPS = 4, 14, 144, 736
JAPANESE = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
RULE = f"ordered lists with the same number of steps in both languages, {SHORTEST} to {LONGEST}; every Japanese step has Japanese letters; no list twice, no step twice in a list; Mac variants of a word left out"
GROUPS = "lists on one page, with two steps alike, or with at least half of their English words in common"

def fetch(package, work):
    "One .deb file, downloaded once and checked against its pinned hash."
    path = work/f"{package}.deb"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=work) as folder:
            try: subprocess.run(["apt-get", "download", f"{package}={VERSION}"], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            except (FileNotFoundError, subprocess.CalledProcessError): sys.exit(f"apt-get could not download {package}={VERSION}. Run this on Debian 12, or put the file there as {path.name} in the folder of --work.")
            next(Path(folder).glob("*.deb")).rename(path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != PACKAGES[package]: sys.exit(f"{path} has the sha256 {found}, but {PACKAGES[package]} was pinned. Delete it and try again; if it stays, the package changed.")
    return path

def pages(path, language):
    "{page: HTML} of one package."
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, capture_output=True).stdout; root = f"./usr/share/libreoffice/help/{language}/"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name[len(root):]: tar.extractfile(m).read().decode() for m in tar if m.isfile() and m.name.startswith(root) and m.name.endswith(".html")}

class Lists(html.parser.HTMLParser):
    "The ordered lists of a page: `found` is a list of lists of texts."
    GAPS, SILENT = {"p", "br", "div", "td", "tr", "li", "ul"}, {"script", "style"}
    def __init__(self): super().__init__(convert_charrefs=True); self.open, self.found, self.spans, self.silent = [], [], [], 0
    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        if tag in ("ol", "ul"):
            self.open.append({"items": [], "inside": False})
            if tag == "ol": self.found.append(self.open[-1]["items"])
        elif tag == "li" and self.open: self.open[-1]["items"].append([]); self.open[-1]["inside"] = True
        elif tag == "span": mac = "hidden" in a and a.get("class") == "MAC"; self.spans.append(mac); self.silent += mac
        elif tag in self.SILENT: self.silent += 1
        if tag in self.GAPS: self.handle_data(" ")
    def handle_endtag(self, tag):
        if tag in ("ol", "ul") and self.open: self.open.pop()
        elif tag == "li" and self.open: self.open[-1]["inside"] = False
        elif tag == "span" and self.spans: self.silent -= self.spans.pop()
        elif tag in self.SILENT: self.silent -= 1
        if tag in self.GAPS: self.handle_data(" ")
    def handle_data(self, text):
        if not self.silent:
            for l in self.open:
                if l["inside"]: l["items"][-1].append(text)

def lists(page):
    "[[text of each step], ...] of one page."
    parser = Lists(); parser.feed(page); parser.close()
    return [[re.sub(r"\s+", " ", "".join(step)).strip() for step in items] for items in parser.found]

def chosen(both):
    "[{page, en, ja}] of the lists that obey `RULE`, in the order of the pages."
    out, seen, read = [], set(), {l: {p: lists(h) for p, h in v.items()} for l, v in both.items()}
    for page in sorted(read["en"]):
        if len(read["en"][page]) != len(read["ja"].get(page, ())): continue
        for en, ja in zip(read["en"][page], read["ja"][page]):
            fits = len(en) == len(ja) and SHORTEST <= len(en) <= LONGEST and all(en) and all(JAPANESE.search(s) for s in ja)
            if not fits or len(set(en)) < len(en) or len(set(ja)) < len(ja) or tuple(en) in seen or tuple(ja) in seen: continue
            seen |= {tuple(en), tuple(ja)}; out.append({"page": page, "en": en, "ja": ja})
    return out

def related(a, b):
    "Are two lists so alike that one must not be tested with the other in training? See `GROUPS`."
    words = [set(re.findall(r"\w+", " ".join(r["en"]).lower())) for r in (a, b)]
    return a["page"] == b["page"] or max(len(set(a[l]) & set(b[l])) for l in LANGUAGES) >= 2 or len(words[0] & words[1]) >= .5*len(words[0] | words[1])

def grouped(records):
    "The records with a group each: related lists, and what is related to those, share one."
    group = list(range(len(records)))
    for i in range(len(records)):
        for j in range(i):
            if related(records[i], records[j]): old, new = group[i], group[j]; group = [new if g == old else g for g in group]
    names = {g: f"g{k:03}" for k, g in enumerate(dict.fromkeys(group))}
    return [{"group": names[g], **r} for g, r in zip(group, records)]

def build(work):
    "{file name: bytes} of the whole archive."
    work.mkdir(parents=True, exist_ok=True)
    records = grouped(chosen({l: pages(fetch(p, work), folder) for l, (p, folder) in LANGUAGES.items()})); steps = sum(len(r["en"]) for r in records)
    if (len(records), steps) != (RECORDS, STEPS): sys.exit(f"{len(records)} lists with {steps} steps obey the rule, but {RECORDS} with {STEPS} were expected. Did the source change?")
    files = {"help_steps.texts.json.xz": lzma.compress(json.dumps({"records": records}, ensure_ascii=False).encode(), preset=9 | lzma.PRESET_EXTREME)}
    manifest = {"name": "help_steps", "rows": len(records), "steps": steps, "groups": len({r["group"] for r in records}), "rule": RULE, "related": GROUPS,
        "order": "the steps of a list stand in their true order; the loader shuffles them, each language by itself", "sources": {p: {"version": VERSION, "sha256": h} for p, h in PACKAGES.items()},
        "licences": {"texts": "MPL-2.0 (LibreOffice help, LibreOffice contributors and Oracle; parts Apache-2.0, Apache Software Foundation)"}, "notice": "NOTICE.txt",
        "files": {n: {"sha256": hashlib.sha256(b).hexdigest(), "bytes": len(b)} for n, b in files.items()}}
    return files | {"help_steps.json": (json.dumps(manifest, indent=1, ensure_ascii=False)+"\n").encode()}

def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--work", type=Path, default=Path(tempfile.gettempdir())/"mmkit-build-help-steps", help="folder for downloads; kept between runs (default: %(default)s)")
    a.add_argument("--out", type=Path, default=ARCHIVES, help="folder to write to (default: mmkit/data/archives of this checkout)")
    a.add_argument("--check", action="store_true", help="write nothing; exit 1 and name the files that would change")
    a = a.parse_args(); files = build(a.work)
    changed = [n for n in files if not (a.out/n).exists() or (a.out/n).read_bytes() != files[n]]
    if a.check: sys.exit(f"would change: {', '.join(changed)}" if changed else 0)
    a.out.mkdir(parents=True, exist_ok=True)
    for n in changed: (a.out/f"{n}.part").write_bytes(files[n]); os.replace(a.out/f"{n}.part", a.out/n)
    print(f"{len(files)} files, {sum(map(len, files.values()))/1e3:.0f} kB, {len(changed)} changed", file=sys.stderr)

if __name__ == "__main__": main()
