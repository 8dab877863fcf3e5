"""Copy the report templates from nbs/poc/templates to mmkit/poc/templates, from where they travel in the wheel.

`--check` only compares: it prints what differs and ends with 1.
"""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE, TARGET = ROOT/"nbs/poc/templates", ROOT/"mmkit/poc/templates"


def templates(folder): return {p.name: p.read_bytes() for p in sorted(folder.glob("*.ipynb"))}


def main(check=False):
    ours, theirs = templates(SOURCE), templates(TARGET)
    changed = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))
    for name in changed:
        if check: print(f"{TARGET.relative_to(ROOT)/name} differs from {SOURCE.relative_to(ROOT)/name}: run scripts/copy_templates.py")
        elif name in ours: TARGET.mkdir(parents=True, exist_ok=True); (TARGET/name).write_bytes(ours[name])
        else: (TARGET/name).unlink()
    return bool(changed) and check


if __name__ == "__main__": sys.exit(main("--check" in sys.argv[1:]))
