"The ledger: two writers, a kill at any byte, edits by hand, hostile text, and exports that say the same."
import json, multiprocessing, signal, subprocess, sys, threading, time
import pytest
from conftest import ROOT
from mmkit.checks import InputError, WeakInputWarning
from mmkit.ledger import LABELS, Entry, Ledger, _line

NIGHT = dict(who="mmkit", rule="mutual nearest")

@pytest.fixture
def ledger(tmp_path):
    l = Ledger(tmp_path/"l.jsonl"); l.record_many([dict(subject=(f"a{i}", f"b{i}"), decision="approve", evidence={"p": .9+i/100}, **NIGHT) for i in range(6)])
    l.record(("a2", "b2"), "revoke", actor="person", who="Ōta", rule="looked", reason="wrong colour"); return l

def edited(ledger, change):
    lines = ledger.path.read_bytes().splitlines(); change(lines); ledger.path.write_bytes(b"".join(l+b"\n" for l in lines)); return Ledger(ledger.path)

# ---- state

def test_state_history_and_reopening(ledger):
    again = Ledger(str(ledger.path)); assert tuple(again) == tuple(ledger) and again.seal == ledger.seal and len(again) == 7
    assert ("a2", "b2") not in again.current() and len(again.current("approve")) == 5 and again.current(actor="person") == {}
    assert [e.decision for e in again.history(["a2", "b2"])] == ["approve", "revoke"] and again.history("nobody") == () and all(isinstance(e, Entry) for e in again)

def test_an_empty_ledger_answers(tmp_path):
    l = Ledger(tmp_path/"new.jsonl"); assert len(l) == 0 and l.current() == {} and l.verify() and l.verify(l.seal) and not l.path.exists() and l.to_frame().empty and l.record_many([]) == ()

def test_nothing_is_overwritten(ledger):
    before = ledger.path.read_bytes(); ledger.record("x", "defer", **NIGHT); assert ledger.path.read_bytes().startswith(before)

def test_numbers_of_numpy_come_back_as_numbers(ledger):
    import numpy as np
    ledger.record("n", "defer", evidence={"a": np.float64(.5), "b": np.int64(3), "c": np.bool_(True), "d": [1, "二"]}, **NIGHT)
    assert Ledger(ledger.path).history("n")[0].evidence == {"a": .5, "b": 3, "c": True, "d": [1, "二"]}

# ---- edits by hand

@pytest.mark.parametrize("row", range(7))
def test_a_changed_row_is_named(ledger, row):
    bad = edited(ledger, lambda x: x.__setitem__(row, x[row].replace(b"mmkit", b"mmkid").replace(b"looked", b"loaked")))
    assert [n for n, _ in bad.verify().problems] == [row+1]
    with pytest.raises(InputError, match=f"line {row+1} "): bad.current()
    size = bad.path.stat().st_size
    with pytest.raises(InputError, match=f"line {row+1} "): bad.record("x", "defer", **NIGHT)
    assert bad.path.stat().st_size == size

def forge(line, **changes):
    found = json.loads(line); found.pop("hash"); return _line(found | changes)

def test_a_forged_hash_is_betrayed_by_the_next_row(ledger):
    assert [n for n, _ in edited(ledger, lambda x: x.__setitem__(3, forge(x[3], decision="reject"))).verify().problems] == [5]

@pytest.mark.parametrize("change, line", [(lambda x: x.pop(2), 3), (lambda x: x.insert(2, x[1]), 3), (lambda x: x.reverse(), 1), (lambda x: x.__setitem__(2, x[2].replace(b'":"', b'": "', 1)), 3),
    (lambda x: x.__setitem__(1, b'{"row":2}'), 2), (lambda x: x.__setitem__(1, b"[]"), 2), (lambda x: x.insert(1, b""), 3), (lambda x: x.__setitem__(1, b"\xff\xfe"), 3), (lambda x: x.__setitem__(1, x[1][:-5]), 3),
    (lambda x: x.__setitem__(1, b"["*100_000), 3), (lambda x: x.__setitem__(1, x[1].replace(b'"row":2', b'"row":"2"')), 2)])
def test_every_other_edit_is_noticed(ledger, change, line):
    bad = edited(ledger, change); check = bad.verify(); assert not check and check.problems[0][0] == line and f"line {line} " in repr(check)
    with pytest.raises(InputError, match="not sound"): len(bad)

def test_only_the_seal_notices_lost_last_rows(ledger):
    seal = ledger.seal; cut = edited(ledger, lambda x: x.pop()); assert cut.verify() and not cut.verify(seal); now = cut.seal
    forged = edited(cut, lambda x: x.__setitem__(5, forge(x[5], who="x"))); assert forged.verify() and not forged.verify(now)
    forged.record("later", "defer", **NIGHT); assert forged.verify(f"6:{tuple(forged)[5].hash}")
    for bad in ("", "x", "3:abc", "²:"+"0"*64):
        with pytest.raises(InputError, match="seal"): forged.verify(bad)

def test_a_ledger_that_shrinks_or_vanishes_while_open(ledger):
    len(ledger); ledger.path.write_bytes(b"")
    with pytest.raises(InputError, match="became shorter"): len(ledger)
    ledger.path.unlink()
    with pytest.raises(InputError, match="is gone"): ledger.current()

# ---- a kill in the middle of a line

@pytest.mark.filterwarnings("ignore::mmkit.checks.WeakInputWarning")
def test_a_cut_at_any_byte_of_the_last_row(ledger):
    kept = ledger.path.read_bytes(); start = kept[:-1].rindex(b"\n")+1
    for end in (*range(start, start+40), *range(start+40, len(kept)-20, 17), *range(len(kept)-20, len(kept)+1)):
        ledger.path.write_bytes(kept[:end]); l = Ledger(ledger.path); whole = end >= len(kept)-1
        assert len(l) == (7 if whole else 6) and l.verify() and len(l.verify().torn) == (not whole and end > start)
        l.record("next", "defer", **NIGHT); check = Ledger(ledger.path).verify(); assert check and check.rows == (8 if whole else 7) and len(check.torn) == (not whole and end > start)
        assert ledger.path.read_bytes().startswith(kept[:end])  # the half line is still there

@pytest.mark.filterwarnings("ignore::mmkit.checks.WeakInputWarning")
def test_a_second_cut_while_the_first_is_mended(ledger):
    kept = ledger.path.read_bytes()[:-40]; ledger.path.write_bytes(kept); Ledger(ledger.path).record("next", "defer", **NIGHT); mended = ledger.path.read_bytes()
    for end in range(len(kept), len(mended)+1, 7):
        ledger.path.write_bytes(mended[:end]); l = Ledger(ledger.path); l.record("again", "defer", **NIGHT); l.record("more", "defer", **NIGHT)
        check = Ledger(ledger.path).verify(); assert check and check.rows >= 8 and 1 <= len(check.torn) <= 2 and len(l.current()) == len(Ledger(ledger.path).current())

def test_a_half_line_is_said(ledger):
    ledger.path.write_bytes(ledger.path.read_bytes()[:-9])
    with pytest.warns(WeakInputWarning, match="line 7"): assert len(Ledger(ledger.path).current()) == 6

def test_a_killed_writer_loses_nothing_it_was_told_is_safe(tmp_path):
    path = tmp_path/"k.jsonl"; code = f"from mmkit.ledger import Ledger\nl = Ledger({str(path)!r})\nfor i in range(10**6): print(l.record(str(i), 'defer', who='w', rule='r').row, flush=True)"
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    told = [int(child.stdout.readline()) for _ in range(25)]; child.send_signal(signal.SIGKILL); told += [int(t) for t in child.stdout.read().split("\n")[:-1]]; child.wait()
    check = Ledger(path).verify(); assert check and check.rows >= told[-1] and told == list(range(1, len(told)+1))

# ---- two writers

def _write(path, who, n):
    l = Ledger(path)
    for i in range(n): l.record(f"{who}{i}", "defer", who=who, rule="r")

def test_two_processes_and_two_threads(tmp_path):
    path = tmp_path/"w.jsonl"; context = multiprocessing.get_context("fork"); jobs = [context.Process(target=_write, args=(path, w, 25)) for w in "pq"]
    shared = Ledger(path); jobs += [threading.Thread(target=lambda w=w: [shared.record(f"{w}{i}", "defer", who=w, rule="r") for i in range(25)]) for w in "xy"]
    for j in jobs: j.start()
    for j in jobs: j.join()
    check = Ledger(path).verify(); assert check and check.rows == 100 and not check.torn and len(shared.current()) == 100
    for w in "pqxy": assert [e.subject[0] for e in shared if e.who == w] == [f"{w}{i}" for i in range(25)]

def test_each_sees_what_the_other_wrote(ledger):
    other = Ledger(ledger.path); other.record("x", "approve", **NIGHT); assert "approve" == ledger.current()[("x",)].decision
    ledger.record("x", "revoke", reason="no", **NIGHT); assert ("x",) not in other.current()

# ---- hostile input

@pytest.mark.parametrize("change, says", [(dict(subject=""), "subject"), (dict(subject=()), "subject"), (dict(subject=("a", 3)), "subject"), (dict(subject=None), "subject"), (dict(who=" "), "who"),
    (dict(rule=None), "rule"), (dict(actor="robot"), "actor"), (dict(decision="yes"), "decision"), (dict(evidence=[1]), "evidence"), (dict(evidence={"a": object()}), "object"), (dict(who="\ud800"), "surrogate"),
    (dict(evidence={"a": "\ud800"}), "evidence"), (dict(evidence={"a": "x"*200_000}), "evidence"), (dict(evidence={"a": 10**5000}), "evidence"), (dict(reason=3), "reason")])
def test_what_cannot_be_kept_is_refused_in_one_sentence(ledger, change, says):
    size = ledger.path.stat().st_size
    with pytest.raises(InputError, match=says): ledger.record(**dict(subject="s", decision="defer", **NIGHT) | change)
    assert ledger.path.stat().st_size == size

def test_deep_evidence(ledger):
    deep = {}
    for _ in range(5000): deep = {"a": deep}
    with pytest.raises(InputError, match="flat dict"): ledger.record("s", "defer", evidence=deep, **NIGHT)

@pytest.mark.parametrize("text", ["a\nb", "{\"row\":1}\n", "\x00", "=cmd()", "../../x", "<img onerror=x>", "\u2028x", "日本語", '"\\'])
def test_hostile_text_stays_text(ledger, tmp_path, text):
    ledger.record((text, text), "approve", who=text+"w", rule=text+"r", reason=text, evidence={text: text}, actor="person"); again = Ledger(ledger.path)
    assert again.verify() and again.current()[(text, text)].evidence == {text: text} and "<img" not in again._repr_html_()
    import pandas as pd
    if text != "\x00": assert "=cmd()" not in [str(v) for v in pd.read_csv(again.export(tmp_path/"x.csv"), keep_default_na=False).to_numpy().ravel()]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"l.jsonl", *(["x.csv"] if text != "\x00" else [])})

def test_revocations_need_something_to_revoke(ledger):
    for s in (("a2", "b2"), "never"):
        with pytest.raises(InputError, match="no standing decision"): ledger.record(s, "revoke", reason="r", **NIGHT)
    rows = ledger.record_many([dict(subject="q", decision="approve", **NIGHT), dict(subject="q", decision="revoke", reason="r", **NIGHT)]); assert [e.row for e in rows] == [8, 9]
    with pytest.raises(InputError, match="no standing"): ledger.record_many([dict(subject="z", decision="approve", **NIGHT), dict(subject="q", decision="revoke", reason="r", **NIGHT)])
    assert len(ledger) == 9

def test_paths(tmp_path):
    with pytest.raises(InputError): Ledger(tmp_path)
    with pytest.raises(InputError): Ledger(tmp_path/"no"/"l.jsonl")
    l = Ledger(tmp_path/"l.jsonl"); l.record("a", "defer", **NIGHT)
    for f in (l.export, l.export_labels):
        with pytest.raises(InputError, match="csv"): f(l.path)
    with pytest.raises(InputError): l.record_many([3])

# ---- exports

def test_exports_say_the_same(ledger, tmp_path):
    import pandas as pd
    ledger.record(("a0", "b9"), "reject", actor="person", who="Ōta", rule="looked"); ledger.record(("a1", "b1"), "approve", actor="person", who="Ōta", rule="looked"); ledger.record("lone", "approve", actor="person", who="x", rule="y")
    frame, labels = ledger.to_frame(), pd.read_csv(ledger.export_labels(tmp_path/"l.csv")); assert list(labels) == list(LABELS) and len(frame) == 10 and len(pd.read_csv(ledger.export(tmp_path/"e.csv"))) == 10
    assert labels[["unique_id_l", "unique_id_r", "clerical_match_score"]].values.tolist() == [["a0", "b9", 0], ["a1", "b1", 1]]
    assert len(pd.read_csv(ledger.export_labels(tmp_path/"l.csv", actor=None))) == 6
    assert json.loads(frame.evidence[0]) == {"p": .9} and "7 by machines" not in repr(ledger) and "6 by machines, 4 by people" in repr(ledger)

def test_many_rows_are_quick(tmp_path):
    start = time.process_time(); l = Ledger(tmp_path/"l.jsonl"); l.record_many([dict(subject=(f"a{i}", f"b{i}"), decision="approve", evidence={"p": i}, **NIGHT) for i in range(4_000)])
    assert Ledger(l.path).verify().rows == 4_000 and time.process_time()-start < 4
