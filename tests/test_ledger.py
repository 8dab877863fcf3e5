"The ledger: two writers, kills at random moments, edits by hand, hostile text and places, and exports that say the same."
import csv, json, multiprocessing, os, random, shutil, signal, sqlite3, subprocess, sys, tempfile, threading, time, uuid
from contextlib import closing
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from conftest import ROOT
from mmkit import ledger as module
from mmkit.checks import InputError
from mmkit.ledger import DECISIONS, LABELS, MOST, NAMES, START, TABLE, Entry, Ledger, _digest, link_feedback, subject_of

NIGHT, PERSON = dict(who="mmkit", rule="mutual nearest"), dict(who="Ōta", rule="looked", actor="person")
FORK = multiprocessing.get_context("fork")

@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "Seven rows: six links of a machine, one of them revoked by a person."
    l = Ledger(tmp_path_factory.mktemp("made")/"l.db"); l.record_many([dict(subject=(f"a{i}", f"b{i}"), decision="approve", evidence={"p": .9+i/100}, model="m1", **NIGHT) for i in range(6)])
    l.record(("a2", "b2"), "revoke", reason="wrong colour", **PERSON); return l

@pytest.fixture
def ledger(made, tmp_path): return Ledger(shutil.copy(made.path, tmp_path/"l.db"))

def by_hand(path, *statements, triggers=False):
    "What somebody with SQLite's own tools does; the guards are dropped first."
    with closing(sqlite3.connect(path)) as c:
        for t in ("update", "delete", "insert") if not triggers else (): c.execute(f"DROP TRIGGER IF EXISTS {TABLE}_no_{t}")
        for s in statements: c.execute(*s) if isinstance(s, tuple) else c.execute(s)
        c.commit()
    return Ledger(path)

def table(path):
    with closing(sqlite3.connect(path)) as c: return c.execute(f"SELECT * FROM {TABLE} ORDER BY row").fetchall()

def named(l, *seal): return [n for n, _ in l.verify(*seal).problems]

# ---- state

def test_state_history_and_reopening(ledger):
    again = Ledger(str(ledger.path)); assert tuple(again) == tuple(ledger) and again.seal == ledger.seal == f"7:{tuple(ledger)[-1].hash}" and len(again) == 7
    assert ("a2", "b2") not in again.current() and len(again.current("approve")) == 5 and again.current(actor="person") == {} and again.current("reject") == {} and len(again.current(actor="machine")) == 5
    assert [e.decision for e in again.history(["a2", "b2"])] == ["approve", "revoke"] and again.history("nobody") == () and all(isinstance(e, Entry) for e in again)
    for wrong, says in (dict(decision="revoke"), "decision"), (dict(actor="robot"), "actor"):
        with pytest.raises(InputError, match=says): again.current(**wrong)
    first = tuple(again)[0]; assert (first.row, first.actor, first.who, first.rule, first.model, first.subject, first.decision, first.reason, first.evidence, first.before) == (1, "machine", "mmkit", "mutual nearest", "m1", ("a0", "b0"), "approve", "", {"p": .9}, START)
    assert first.time.endswith("+00:00") and len(first.time) == 29 and abs(time.time()-module.datetime.datetime.fromisoformat(first.time).timestamp()) < 3600

def test_an_empty_ledger_answers(tmp_path):
    l = Ledger(tmp_path/"new.db"); assert len(l) == 0 and l.current() == {} and l.history("x") == () and l.verify() and l.verify(l.seal) and l.seal == f"0:{START}" and l.to_frame().empty and l.record_many([]) == () and not l.path.exists()
    assert link_feedback(l) == ([], []) and "0 decisions" in repr(l) and l.verify().rows == 0 and l.verify().seal == l.seal
    (tmp_path/"empty.db").touch(); l = Ledger(tmp_path/"empty.db"); assert len(l) == 0 and l.verify(); assert l.record("x", "defer", **NIGHT).row == 1
    with pytest.raises(InputError, match="no standing"): Ledger(tmp_path/"refused.db").record("x", "revoke", reason="r", **NIGHT)
    l = Ledger(tmp_path/"refused.db"); assert len(l) == 0 and l.verify() and l.record("x", "defer", **NIGHT).before == START

def test_what_record_returns_is_what_is_read(tmp_path):
    l = Ledger(tmp_path/"l.db"); told = [l.record("x", "defer", reason="r", model="m", evidence={"b": 1, "a": [1, "二"]}, **NIGHT), *l.record_many([dict(subject=("x", "y"), decision="reject", **PERSON)]*3)]
    assert told == list(Ledger(l.path)) == list(l) and [e.row for e in told] == [1, 2, 3, 4] and [e.before for e in told[1:]] == [e.hash for e in told[:-1]]

def test_the_hash_can_be_computed_by_anybody(ledger):
    import hashlib
    for *cells, last in table(ledger.path): assert hashlib.sha256(json.dumps(cells, separators=(",", ":")).encode()).hexdigest() == last

def test_columns_are_plain(tmp_path):
    l = Ledger(tmp_path/"l.db"); l.record(("é", "日本"), "defer", evidence={"b": 1, "a": "ü"}, **NIGHT); row = dict(zip(NAMES, table(l.path)[0]))
    assert row["subject"] == '["é","日本"]' and row["evidence"] == '{"a":"ü","b":1}' and row["row"] == 1  # canonical: sorted, no spaces, readable
    with closing(sqlite3.connect(l.path)) as c: assert [r[1:4] for r in c.execute(f"PRAGMA table_info({TABLE})")] == [("row", "INTEGER", 1), *((n, "TEXT", 1) for n in NAMES[1:-2]), ("before", "VARCHAR(64)", 1), ("hash", "VARCHAR(64)", 1)] and c.execute("PRAGMA journal_mode").fetchone() == ("delete",)

def test_a_decision_is_forced_to_the_disk(ledger):
    with closing(module._connect(ledger.path)) as c: assert c.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA

def test_numbers_of_numpy_come_back_as_numbers(ledger):
    import numpy as np
    ledger.record("n", "defer", evidence={"a": np.float64(.5), "b": np.int64(3), "c": np.bool_(True), "d": [1, "二"]}, **NIGHT)
    assert Ledger(ledger.path).history("n")[0].evidence == {"a": .5, "b": 3, "c": True, "d": [1, "二"]}

def test_reading_goes_on_where_it_stopped(ledger, monkeypatch):
    seen = []; add = module._add; len(ledger)
    monkeypatch.setattr(module, "_add", lambda chain, cells: (seen.append(cells[0]), add(chain, cells))[1])
    len(ledger); ledger.current(); ledger.seal; assert seen == []
    Ledger(ledger.path).record("x", "defer", **NIGHT); seen.clear(); assert len(ledger) == 8 and seen == [8]

def test_an_interrupted_reading_is_begun_again(ledger, monkeypatch):
    l, trusted = Ledger(ledger.path), module._trusted
    def stop(self):
        trusted(self)
        if self._chain.rows == 4: raise KeyboardInterrupt
    monkeypatch.setattr(module, "_trusted", stop)
    with pytest.raises(KeyboardInterrupt): len(l)
    monkeypatch.undo(); assert tuple(l) == tuple(ledger) and list(l.current()) == list(ledger.current())

_words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(str.strip)
_decision = st.fixed_dictionaries(dict(subject=st.sampled_from(["s", ("s",), ("s", "t"), ("t", "s"), "日"]), decision=st.sampled_from(DECISIONS), who=_words, rule=_words, actor=st.sampled_from(module.ACTORS), reason=_words,
                                       evidence=st.dictionaries(_words, st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-10**20, 10**20), _words, st.booleans(), st.none()), max_size=3)))

@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_decision, max_size=8), st.integers(0, 8))
def test_any_story_comes_back(tmp_path, story, cut):
    path = tmp_path/f"{uuid.uuid4()}.db"; l, stands, told = Ledger(path), {}, []
    for part in (story[:cut], story[cut:]):
        keep = []
        for d in part:
            key = subject_of(d["subject"])
            if d["decision"] == "revoke" and key not in stands: continue
            stands.pop(key, None); keep.append(d)
            if d["decision"] != "revoke": stands[key] = d
        told += l.record_many(keep)
    again = Ledger(path); assert list(again) == told and again.verify(l.seal) and list(again.current()) == list(stands)
    for key, d in stands.items(): e = again.current()[key]; assert (e.decision, e.who, e.rule, e.actor, e.reason, e.evidence) == tuple(d[k] for k in ("decision", "who", "rule", "actor", "reason", "evidence"))

# ---- edits by hand

@pytest.mark.parametrize("statement", [f"UPDATE {TABLE} SET decision = 'approve'", f"DELETE FROM {TABLE} WHERE row = 7", f"DELETE FROM {TABLE}", f"INSERT OR REPLACE INTO {TABLE} SELECT * FROM {TABLE} WHERE row = 3",
    f"INSERT OR REPLACE INTO {TABLE} SELECT 8, time, actor, who, rule, model, subject, decision, reason, evidence, before, hash FROM {TABLE} WHERE row = 3",
    f"INSERT INTO {TABLE} SELECT 9, time, actor, who, rule, model, subject, decision, reason, evidence, (SELECT hash FROM {TABLE} WHERE row = 7), hash FROM {TABLE} WHERE row = 3",
    f"INSERT INTO {TABLE} SELECT 8, time, actor, who, rule, model, subject, decision, reason, evidence, 'x', hash FROM {TABLE} WHERE row = 3"])
def test_sqlite_itself_refuses_and_says_why(ledger, statement):
    before = table(ledger.path)
    with pytest.raises(sqlite3.IntegrityError, match="only grows.*Record a new decision"): by_hand(ledger.path, statement, triggers=True)
    assert table(ledger.path) == before

@pytest.mark.parametrize("value", ["x", "", b"\xff", 7, 1.5, "\ud800".encode("utf-8", "surrogatepass"), "[" * 2000])
@pytest.mark.parametrize("column", [n for n in NAMES if n != "row"])
def test_any_changed_cell_of_a_row_names_that_row(ledger, column, value):
    if value == "" == getattr(tuple(ledger)[3], column): value = "y"
    bad = by_hand(ledger.path, (f"UPDATE {TABLE} SET {column} = ? WHERE row = 4", (value,))); check = bad.verify()
    assert named(bad) == [4] and check.rows == 7 and not check and not check.sound and "row 4 was changed" in repr(check) and "row 4" not in check._repr_html_().split("<tbody>")[-1] and ">4<" in check._repr_html_()
    for act in (bad.current, lambda: len(bad), lambda: bad.record("x", "defer", **NIGHT), bad.to_frame):
        with pytest.raises(InputError, match="not sound: row 4 was changed.*verify"): act()
    assert len(table(ledger.path)) == 7 and repr(bad).startswith("Ledger that cannot be read: ") and "row 4" in bad._repr_html_()

def test_a_ledger_that_was_put_right_can_be_used_again(ledger):
    kept = ledger.path.read_bytes(); bad = by_hand(ledger.path, f"UPDATE {TABLE} SET who = 'x' WHERE row = 4")
    with pytest.raises(InputError, match="row 4"): len(bad)
    bad.path.write_bytes(kept); assert len(bad) == 7 and len(bad.current()) == 5

def test_text_that_is_no_text(ledger):
    bad = by_hand(ledger.path, f"UPDATE {TABLE} SET reason = CAST(x'ff41' AS TEXT) WHERE row = 4"); assert named(bad) == [4]

@pytest.mark.parametrize("new, where", [(30, [5, 30]), (-3, [-3, 1, 5]), (8, [5, 8])])
def test_a_changed_row_number(ledger, new, where): assert named(by_hand(ledger.path, f"UPDATE {TABLE} SET row = {new} WHERE row = 4")) == where

@pytest.mark.parametrize("row", range(1, 8))
def test_a_removed_row_is_noticed_where_it_was(ledger, row):
    seal = ledger.seal; bad = by_hand(ledger.path, f"DELETE FROM {TABLE} WHERE row = {row}")
    assert named(bad) == ([row+1] if row < 7 else []) and named(bad, seal)[-1] == 7 and bad.verify().rows == 6
    if row < 7: assert f"row {row+1} does not continue" in repr(bad.verify())

def test_two_rows_that_changed_places(ledger):
    assert named(by_hand(ledger.path, f"UPDATE {TABLE} SET row = 99 WHERE row = 3", f"UPDATE {TABLE} SET row = 3 WHERE row = 5", f"UPDATE {TABLE} SET row = 5 WHERE row = 99"))[:2] == [3, 4]

def rewrite(path, rows):
    "Put other rows into the table, without any constraint."
    with closing(sqlite3.connect(path)) as c:
        c.execute(f"DROP TABLE {TABLE}"); c.execute(f"CREATE TABLE {TABLE} ({', '.join(NAMES)})"); c.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join('?'*12)})", rows); c.commit()
    return Ledger(path)

def forged(cells, **changes): cells = [changes.get(n, v) for n, v in zip(NAMES, cells)][:-1]; return (*cells, _digest(cells))

def test_a_forged_row_is_betrayed_by_the_next(ledger):
    rows = table(ledger.path); assert rewrite(ledger.path, rows).verify()  # the same rows without the constraints are sound
    assert named(rewrite(ledger.path, [*rows[:3], forged(rows[3], decision="reject"), *rows[4:]])) == [5]
    assert named(rewrite(ledger.path, [*rows[:3], forged(rows[3], row=9), *rows[4:]])) == [5, 9]
    assert named(rewrite(ledger.path, [*rows[:6], forged(rows[6], row=8)])) == [8] and "number 8 instead of 7" in repr(Ledger(ledger.path).verify())
    slipped = forged(rows[0], row=4, before=rows[2][-1]); assert named(rewrite(ledger.path, [*rows[:3], slipped, *rows[3:]])) == [4]  # the true row 4 no longer continues the one before it
    assert "…" in repr(rewrite(ledger.path, [(*r[:-1], "x") for r in rows]).verify())

@pytest.mark.parametrize("changes", [dict(subject="[]"), dict(subject="{}"), dict(subject="[1]"), dict(subject="x"), dict(subject='"ab"'), dict(evidence="[]"), dict(evidence="{"), dict(evidence="["*100_000), dict(evidence='{"a":'+"9"*5000+"}"),
    dict(actor="robot"), dict(decision="maybe"), dict(who=None), dict(who=3), dict(rule=None), dict(reason=2.5), dict(model=None), dict(time=None), dict(subject=None)])
def test_a_forged_last_row_that_no_ledger_writes(ledger, changes):
    rows = table(ledger.path); bad = rewrite(ledger.path, [*rows[:6], forged(rows[6], **changes)]); assert named(bad) == [7] and "row 7 is not a row of a ledger" in repr(bad.verify())
    with pytest.raises(InputError, match="not sound"): bad.current()

@pytest.mark.parametrize("number", [None, "7", 7.5, b"7"])
def test_a_row_number_that_is_none(ledger, number):
    rows = table(ledger.path); bad = rewrite(ledger.path, [*rows[:6], (number, *rows[6][1:])]); assert not bad.verify() and bad.verify().rows == 7 and number in named(bad)

def test_only_the_seal_notices_lost_last_rows(ledger):
    seal = ledger.seal; cut = by_hand(ledger.path, f"DELETE FROM {TABLE} WHERE row = 7"); assert cut.verify() and named(cut, seal) == [7] and "7 rows were sealed, 6 are left" in repr(cut.verify(seal)); now = cut.seal
    forge = rewrite(ledger.path, [*table(ledger.path)[:5], forged(table(ledger.path)[5], who="x")]); assert forge.verify() and named(forge, now) == [6] and "rewritten" in repr(forge.verify(now)) and named(forge, seal) == [7]
    forge.record("later", "defer", **NIGHT); assert forge.verify(f"6:{tuple(forge)[5].hash}") and forge.verify(f"0:{START}") and named(forge, f"0:{'1'*64}") == [0]
    for bad in ("", "x", "3:abc", "²:"+"0"*64, "9"*20+":"+"0"*64, "9"*5000+":"+"0"*64, 7):
        with pytest.raises(InputError, match="`seal` is .*ledger.seal"): forge.verify(bad)

def test_a_ledger_that_changes_while_open(made, tmp_path):
    def fresh(): l = Ledger(shutil.copy(made.path, tmp_path/"l.db")); len(l); return l
    l = fresh(); by_hand(l.path, f"DELETE FROM {TABLE} WHERE row > 4")
    for act in (lambda: len(l), lambda: l.record("x", "defer", **NIGHT)):
        with pytest.raises(InputError, match="became shorter"): act()
    l = fresh(); by_hand(l.path, f"UPDATE {TABLE} SET who = 'x' WHERE row = 7")
    with pytest.raises(InputError, match="Row 7 .* was changed since it was opened"): l.current()
    l = fresh(); by_hand(l.path, f"UPDATE {TABLE} SET hash = 'x' WHERE row = 7")
    with pytest.raises(InputError, match="Row 7"): l.current()
    l = fresh(); by_hand(l.path, f"UPDATE {TABLE} SET who = 'x' WHERE row = 2"); assert named(l) == [2]  # verify trusts nothing that was read before
    l = fresh(); l.path.unlink()
    for act in (l.current, lambda: l.record("x", "defer", **NIGHT), l.verify):
        with pytest.raises(InputError, match="is gone"): act()
    assert not l.path.exists()
    l = fresh(); l.path.write_bytes(b"")
    with pytest.raises(InputError, match="gone"): l.current()

# ---- kills

def _count(path, pipe):
    l = Ledger(path)
    for i in range(10**6): pipe.send(l.record(f"{os.getpid()} {i}", "defer", **NIGHT).row if i % 3 else l.record_many([dict(subject=f"{os.getpid()} {i} {j}", decision="defer", **NIGHT) for j in range(20)])[-1].row)

def test_a_killed_writer_loses_nothing_it_was_told_is_safe(tmp_path):
    path, rng, told = tmp_path/"k.db", random.Random(5), [0]
    for _ in range(20):
        here, there = FORK.Pipe(False); child = FORK.Process(target=_count, args=(path, there)); child.start(); there.close()
        if rng.random() < .5: here.poll(5)
        time.sleep(rng.uniform(0, .1)); os.kill(child.pid, signal.SIGKILL); child.join()
        try:
            while here.poll(): told.append(here.recv())
        except EOFError: pass
        check = Ledger(path).verify(); assert check, check; assert check.rows >= told[-1]
    assert told == sorted(told) and len(told) > 5; rows = list(Ledger(path)); assert [e.row for e in rows] == list(range(1, len(rows)+1)) and len({e.subject for e in rows}) == len(rows)
    batches = [e.subject[0].rsplit(" ", 1)[0] for e in rows if e.subject[0].count(" ") == 2]; assert all(batches.count(b) == 20 for b in set(batches))  # all of a batch, or nothing

# ---- two writers

def _write(path, who, n):
    l = Ledger(path)
    for i in range(n): l.record(f"{who}{i}", "defer", who=who, rule="r")

def test_two_processes_write_two_hundred_each(tmp_path):
    path = tmp_path/"w.db"; jobs = [FORK.Process(target=_write, args=(path, w, 200)) for w in "pq"]
    for j in jobs: j.start()
    for j in jobs: j.join()
    l = Ledger(path); assert [j.exitcode for j in jobs] == [0, 0] and l.verify() and len(l) == 400
    for w in "pq": assert [e.subject[0] for e in l if e.who == w] == [f"{w}{i}" for i in range(200)]

def test_threads_share_one_ledger(tmp_path):
    shared = Ledger(tmp_path/"t.db"); jobs = [threading.Thread(target=lambda w=w: [shared.record(f"{w}{i}", "defer", who=w, rule="r") for i in range(10)]) for w in "xyz"]
    for j in jobs: j.start()
    for j in jobs: j.join()
    assert shared.verify().rows == 30 == len(shared.current())

def test_each_sees_what_the_other_wrote(ledger):
    other = Ledger(ledger.path); other.record("x", "approve", **NIGHT); assert "approve" == ledger.current()[("x",)].decision
    ledger.record("x", "revoke", reason="no", **NIGHT); assert ("x",) not in other.current()

def test_a_writer_waits_for_the_file_and_then_says_so(ledger, monkeypatch):
    with closing(sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE"); start = time.monotonic(); assert len(ledger) == 7 and ledger.verify() and time.monotonic()-start < 5  # who only reads does not wait for a writer
        release = threading.Timer(.3, other.rollback); start = time.monotonic(); release.start(); ledger.record("x", "defer", **NIGHT); assert time.monotonic()-start > .25
        release.join(); other.execute("BEGIN EXCLUSIVE"); monkeypatch.setattr(module, "PATIENCE", .1)
        for act in (lambda: ledger.record("y", "defer", **NIGHT), ledger.current, ledger.verify):
            with pytest.raises(InputError, match="locked.. Another program"): act()
    ledger.record("y", "defer", **NIGHT); assert len(ledger) == 9

# ---- hostile input

@pytest.mark.parametrize("change, says", [(dict(subject=""), "subject"), (dict(subject=()), "pair of ids"), (dict(subject=("a", 3)), "subject"), (dict(subject=None), "subject"), (dict(who=" "), "who"), (dict(who="x\0y"), "NUL"), (dict(subject=("a", "\0")), "NUL"),
    (dict(rule=None), "rule"), (dict(actor="robot"), "actor"), (dict(decision="yes"), "decision"), (dict(evidence=[1]), "evidence"), (dict(evidence={"a": object()}), "object"), (dict(who="\ud800"), "surrogate"), (dict(reason="x"*(MOST+1)), "100,001 characters"),
    (dict(evidence={"a": "\ud800"}), "evidence"), (dict(evidence={"a": "x"*MOST}), "evidence"), (dict(evidence={"a": 10**5000}), "evidence"), (dict(evidence={"a": [[]]*999}), "flat dict"), (dict(reason=3), "`reason` is '3', but text was"), (dict(model=None), "model"), (dict(who=""), "not empty")])
def test_what_cannot_be_kept_is_refused_in_one_sentence(ledger, change, says):
    before = table(ledger.path)
    with pytest.raises(InputError, match=says): ledger.record(**dict(subject="s", decision="defer", **NIGHT) | change)
    assert table(ledger.path) == before

def test_the_largest_that_is_kept(ledger):
    ledger.record("s", "defer", reason="x"*MOST, evidence={"a": "x"*(MOST-8)}, **NIGHT); ledger.record("s", "defer", evidence={"a": [[]]*998}, **NIGHT); assert Ledger(ledger.path).verify()

def test_deep_evidence(ledger):
    deep = {}
    for _ in range(5000): deep = {"a": deep}
    with pytest.raises(InputError, match="flat dict"): ledger.record("s", "defer", evidence=deep, **NIGHT)

@pytest.mark.parametrize("text", ["a\nb", "{\"row\":1}\n", "'; DROP TABLE mmkit_ledger; --", "\" OR 1=1", "%s %(a)s :a ? {}", "=cmd()", "＝cmd()", "../../x", "<img onerror=x>", "\u2028x", "日本語", '"\\', "é", "e\u0301", "x\x1by"])
def test_hostile_text_stays_text(ledger, tmp_path, text):
    ledger.record((text, text), "approve", who=text+"w", rule=text+"r", model=text, reason=text, evidence={text: text}, actor="person"); again = Ledger(ledger.path)
    e = again.current()[(text, text)]; assert (e.who, e.rule, e.model, e.reason, e.evidence) == (text+"w", text+"r", text, text, {text: text}) and again.verify() and len(again.history((text, text))) == 1 and "<img" not in again._repr_html_() and len(again) == 8
    with open(again.export(tmp_path/"x.csv"), newline="", encoding="utf8") as f: rows = list(csv.reader(f)); assert len(rows) == 9 and not [c for r in rows for c in r if c[:1] in tuple("=＝")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["l.db", "x.csv"]

def test_ids_that_look_alike_stay_apart(ledger):
    for s in ("é", "e\u0301", "E\u0301", "é ", "1", "１"): ledger.record(s, "defer", reason=ascii(s), **NIGHT)
    assert all(Ledger(ledger.path).current()[(s,)].reason == ascii(s) for s in ("é", "e\u0301", "E\u0301", "é ", "1", "１"))

def test_revocations_need_something_to_revoke(ledger):
    for s in (("a2", "b2"), "never", ("b0", "a0")):
        with pytest.raises(InputError, match="no standing decision"): ledger.record(s, "revoke", reason="r", **NIGHT)
    for reason in ("", " "):
        with pytest.raises(InputError, match="no `reason`"): ledger.record(("a0", "b0"), "revoke", reason=reason, **NIGHT)
    take = dict(subject="q", decision="revoke", reason="r", **NIGHT); rows = ledger.record_many([dict(subject="q", decision="approve", **NIGHT), take]); assert [e.row for e in rows] == [8, 9]
    for batch in ([dict(subject="z", decision="approve", **NIGHT), take], [dict(subject="q", decision="approve", **NIGHT), take, take]):
        with pytest.raises(InputError, match="no standing"): ledger.record_many(batch)
    assert len(ledger) == 9 and ledger.record_many([dict(subject="q", decision="approve", **NIGHT), take, dict(subject="q", decision="reject", **NIGHT)]) and ledger.current()[("q",)].decision == "reject"

# ---- hostile places

def test_places_that_are_refused_at_the_door(tmp_path):
    (tmp_path/"notes.txt").write_text("a ledger? no"); (tmp_path/"cut.db").write_bytes(b"SQLite form")
    for bad, says in [(tmp_path, "must be a file"), (tmp_path/"no"/"l.db", "folder that exists"), ("", "must be a file"), (":memory:", "must be a file"), ("a\0b", "must be a file|expected"), (None, "path of a file"), (3, "path of a file"), (b"x.db", "path of a file"),
                      (tmp_path/"notes.txt", "no SQLite file"), (tmp_path/"cut.db", "no SQLite file"), ("sqlite://", "path of its file"), ("mongodb://h/x", "cannot be read"), ("://", "cannot be read"), ("postgresql://h:port/d", "cannot be read"), ("sqlite:///:memory:", "must be a file")]:
        with pytest.raises(InputError, match=says): Ledger(bad)
    assert (tmp_path/"notes.txt").read_text() == "a ledger? no"

def test_an_address_of_a_file_is_a_path(ledger, monkeypatch):
    assert tuple(Ledger(f"sqlite:///{ledger.path}")) == tuple(ledger); monkeypatch.chdir(ledger.path.parent); l = Ledger("l.db"); monkeypatch.chdir("/"); assert len(l) == 7 and not os.path.exists("/l.db")

@pytest.mark.parametrize("name", ["a b.db", "a?mode=ro.db", "a#b.db", "a%20b.db", "file:x.db", "日本.db", "'; --.db", "-x"])
def test_odd_names_of_files(tmp_path, name):
    l = Ledger(tmp_path/name); l.record("x", "defer", **NIGHT); assert [p.name for p in tmp_path.iterdir()] == [name] and len(Ledger(tmp_path/name)) == 1

def test_somebody_elses_database_is_left_alone(tmp_path):
    for sql, says in [("CREATE TABLE customers (id INTEGER)", "holds `customers`"), (f"CREATE TABLE {TABLE} (id INTEGER, name TEXT)", "other columns .id, name"), (f"CREATE TABLE {TABLE} ({', '.join(NAMES[::-1])})", "other columns")]:
        path = tmp_path/"c.db"; path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as c: c.execute(sql); c.commit()
        before = path.read_bytes(); l = Ledger(path)
        for act in (l.current, lambda: l.record("x", "defer", **NIGHT), l.verify):
            with pytest.raises(InputError, match=says): act()
        assert path.read_bytes() == before

def test_refusals_word_by_word(ledger, tmp_path):
    (tmp_path/"notes.txt").write_text("a"*40)
    with closing(sqlite3.connect(tmp_path/"other.db")) as c: c.execute("CREATE TABLE orders (id INTEGER)"); c.commit()
    with closing(sqlite3.connect(tmp_path/"older.db")) as c: c.execute(f"CREATE TABLE {TABLE} (id INTEGER)"); c.commit()
    say = lambda **changes: ledger.record(**dict(subject="s", decision="defer", **NIGHT) | changes)
    for act, words in [(lambda: say(who=3), "`who` is '3', but text that is not empty was expected."), (lambda: say(reason=3), "`reason` is '3', but text was expected."), (lambda: say(model="x"*100_001), "`model` has 100,001 characters, but at most 100,000 are kept. Shorten it."),
        (lambda: say(rule="\0"), "`rule` holds the character NUL, which not every database can keep. Remove it."), (lambda: say(who="\ud800"), "`who` holds half of a character (a lone surrogate), which no file can keep. Decode the text again."),
        (lambda: say(subject=3), "`subject` is '3', but an id or a pair of ids was expected."), (lambda: say(evidence=[1]), "`evidence` is a list, but a dict such as {'confidence': .98} was expected."),
        (lambda: say(evidence={"a": "x"*100_000}), "`evidence` cannot be kept. Pass a flat dict of numbers and texts, together at most 100,000 characters."), (lambda: say(decision="revoke", reason="r"), "There is no standing decision on ('s',) to revoke. Look it up with history()."),
        (lambda: say(subject=("a0", "b0"), decision="revoke"), "The revocation of ('a0', 'b0') has no `reason`. Say why the decision is taken back."), (lambda: ledger.record_many([3]), None), (lambda: ledger.verify("3:x"), "`seal` is '3:x', but text like `12:3fa0…` from `ledger.seal` was expected."),
        (lambda: ledger.export("l.txt"), "`l.txt` does not end in `.csv`. Add the ending."), (lambda: Ledger(3), "`path` is '3', but the path of a file or the address of a database was expected."), (lambda: Ledger(tmp_path), f"`{tmp_path.name}` must be a file in a folder that exists."),
        (lambda: Ledger(tmp_path/"notes.txt"), "`notes.txt` is no SQLite file, so it is no ledger. Pass the path of a ledger or of a new file."), (lambda: Ledger("sqlite://"), "An SQLite ledger is named by the path of its file, e.g. `decisions.db`; one in memory keeps nothing."),
        (lambda: len(Ledger(tmp_path/"other.db")), "`other.db` is a database, but no ledger: it holds `orders`. Pass the path of a ledger or of a new file."), (lambda: len(Ledger(tmp_path/"older.db")), f"`older.db` has a table `{TABLE}` with other columns (id). It comes from another program or version; pass another place."),
        (lambda: Ledger("oracle+oracledb://h/d"), "The driver `oracledb` is not installed. Install the package that brings it, e.g. `pip install \"psycopg[binary]\"` for postgresql+psycopg."),
        (lambda: Ledger("mongodb://h/d"), "The address of the database cannot be read, or names a kind that is not known. Write it as `postgresql+psycopg://user:password@host/database`; in the password, write @ as %40 and : as %3A.")]:
        with pytest.raises(InputError) as e: act()
        assert str(e.value) == words if words else str(e.value).startswith("Decision 0 cannot be recorded: ")
    by_hand(ledger.path, f"UPDATE {TABLE} SET who = 'x' WHERE row = 4"); assert repr(ledger.verify()) == "Ledger of 7 rows: NOT SOUND: row 4 was changed after it was written: its content does not fit its hash"
    with pytest.raises(InputError) as e: len(Ledger(ledger.path))
    assert str(e.value) == "The ledger `l.db` is not sound: row 4 was changed after it was written: its content does not fit its hash. Call verify() for all findings and go back to a copy."

def test_what_was_decided_cannot_be_changed_in_memory(ledger):
    for thing, name in ((tuple(ledger)[0], "who"), (ledger.verify(), "rows")):
        with pytest.raises(AttributeError): setattr(thing, name, 0)

def test_a_damaged_file_is_one_sentence(ledger):
    kept = ledger.path.read_bytes(); half = len(kept)//2
    for wrong in (kept[:100]+b"\xff"*(len(kept)-100), kept[:16]+b"\0"*200+kept[216:], kept[:half]):
        ledger.path.write_bytes(wrong); l = Ledger(ledger.path)
        for act in (l.current, lambda: l.record("x", "defer", **NIGHT), l.verify):
            with pytest.raises(InputError, match="l.db.*. (It is damaged. Go back|It is gone|It is no SQLite file|Go back)"): act()

def _as_nobody(path, pipe):
    if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)  # the superuser may write anywhere
    l = Ledger(path); pipe.send((len(l), bool(l.verify())))
    for p in (path, path+".new"):
        try: pipe.send(Ledger(p).record("x", "defer", **NIGHT))
        except InputError as e: pipe.send(str(e))

def test_a_read_only_file_can_be_read(made):
    len(made); here, there = FORK.Pipe(False)
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(made.path, folder); os.chmod(path, 0o444); os.chmod(folder, 0o555); child = FORK.Process(target=_as_nobody, args=(path, there)); child.start(); there.close(); child.join(); os.chmod(folder, 0o755)
    assert here.recv() == (7, True); said, new = here.recv(), here.recv(); assert "readonly" in said and "permissions" in said and "unable to open" in new and "permissions" in new

def test_a_full_disk_is_said(ledger, monkeypatch):
    connect = module._connect
    def small(path): c = connect(path); c.execute("PRAGMA max_page_count=9"); return c
    monkeypatch.setattr(module, "_connect", small); before = table(ledger.path)
    with pytest.raises(InputError, match="full.. Make room"): ledger.record_many([dict(subject=str(i), decision="defer", reason="x"*1000, **NIGHT) for i in range(200)])
    monkeypatch.undo(); assert table(ledger.path) == before; ledger.record("x", "defer", **NIGHT); assert ledger.verify().rows == 8

SECRET = "hunter2-s3cret"
@pytest.mark.parametrize("url", ["postgresql+nodriver://me:{}@h/d", "oracle+oracledb://me:{}@db.example/links", "mongodb://me:{}@h/d", "postgresql://me:{}@h:port/d", "postgresql://me:{}@h:99999999/d?x={}", "mysql+asyncmy://me:{}@h/d", "sqlite+pysqlite://me:{}@/x"])
def test_no_secret_in_what_is_said(url, tmp_path):
    with pytest.raises(InputError) as e: Ledger(url.format(SECRET, SECRET)).record("x", "defer", **NIGHT)
    assert SECRET not in str(e.value) and len(str(e.value)) < 400

class Quoting(Exception): "What a driver raises: its words quote the address."
def test_of_a_servers_complaint_only_the_code_is_repeated(monkeypatch):
    import sqlalchemy as sa
    def refuse(**_): e = Quoting(f"no login for me:{SECRET}@h"); e.sqlstate = "28P01"; raise sa.exc.OperationalError("", {}, e)
    l = Ledger.__new__(Ledger); l.__dict__ |= dict(path=None, name="postgresql://h/d", _engine=sa.create_engine("sqlite://", creator=refuse), _guard=threading.RLock(), _known=False); l._fresh()
    for act in (l.current, lambda: l.record("x", "defer", **NIGHT), l.verify, lambda: l.export("x.csv")):
        with pytest.raises(InputError, match="postgresql://h/d` cannot be used .Quoting 28P01.*password") as e: act()
        assert SECRET not in str(e.value)
    assert SECRET not in repr(l)+l._repr_html_()

# ---- what differs on a server, played on SQLite that goes by another name

@pytest.fixture
def pretended(tmp_path, monkeypatch):
    "Ledgers of one database that has no triggers and no `BEGIN IMMEDIATE`."
    import sqlalchemy as sa
    real = sa.create_engine
    def engine(url, **options): e = real(f"sqlite:///{tmp_path/'server.db'}", **options); e.dialect.name = "pretended"; return e
    monkeypatch.setattr(sa, "create_engine", engine); return lambda: Ledger(f"postgresql+psycopg://me:{SECRET}@h/d?password={SECRET}")

def test_a_ledger_without_a_file(pretended, tmp_path):
    l = pretended(); assert (l.path, l.name) == (None, "postgresql+psycopg://h/d") and len(l) == 0 and l.verify() and repr(l).startswith("Ledger: 0"); l.record("x", "defer", **NIGHT)
    with closing(sqlite3.connect(tmp_path/"server.db")) as c: c.execute("CREATE TABLE orders (id INTEGER)"); c.commit()  # other tables are normal on a server
    again = pretended(); assert tuple(again) == tuple(l) and again.verify(l.seal) and SECRET not in repr(again)+str(vars(again))+again.export(tmp_path/"x.csv").read_text()

def test_the_second_of_two_on_a_server_tries_again(pretended, monkeypatch):
    one, two, numbered, calls = pretended(), pretended(), module._numbered, []
    def late(chain, contents):
        rows = numbered(chain, contents); calls.append(1)
        if len(calls) in (1, 3): two.record(f"quick {len(calls)}", "defer", **NIGHT)
        return rows
    one.record("first", "defer", **NIGHT); monkeypatch.setattr(module, "_numbered", late)
    e = one.record("slow", "defer", **NIGHT); assert e.row == 4 and one.verify() and [x.subject[0] for x in one] == ["first", "quick 1", "quick 3", "slow"] and list(one) == list(two)

def test_who_always_comes_second_gives_up(pretended, monkeypatch):
    one = pretended(); one.record("first", "defer", **NIGHT); monkeypatch.setattr(module, "PATIENCE", .2); monkeypatch.setattr(module, "_numbered", lambda chain, contents: [tuple(one._kept[0].row if n == "row" else "x" for n in NAMES)])
    with pytest.raises(InputError, match="other writers came first.*record_many"): one.record("never", "defer", **NIGHT)
    monkeypatch.undo(); assert len(one) == 1

def test_two_that_make_the_table_at_once(pretended, monkeypatch):
    one, two, there = pretended(), pretended(), module._there; two.record("quick", "defer", **NIGHT); calls = []
    monkeypatch.setattr(module, "_there", lambda self, c: bool(calls.append(1)) if not calls else there(self, c))
    assert one.record("slow", "defer", **NIGHT).row == 2 and one.verify()

def test_a_table_that_cannot_be_made(pretended, monkeypatch):
    class Table: create = staticmethod(lambda c: c.exec_driver_sql("CREATE TABLE nonsense ("))
    l = pretended(); whole = module._table; monkeypatch.setattr(module, "_table", lambda: Table)
    with pytest.raises(InputError, match="cannot be used .*incomplete input"): l.record("x", "defer", **NIGHT)
    monkeypatch.setattr(module, "_table", whole); assert len(l) == 0

def test_a_table_that_vanishes_from_a_server(pretended, tmp_path):
    l = pretended(); l.record("x", "defer", **NIGHT)
    with closing(sqlite3.connect(tmp_path/"server.db")) as c: c.execute(f"DROP TABLE {TABLE}"); c.commit()
    for act in (l.current, lambda: l.record("y", "defer", **NIGHT), l.verify):
        with pytest.raises(InputError, match="cannot be used"): act()
    l._known = False
    with pytest.raises(InputError, match="is gone"): l.current()

def test_an_asynchronous_driver_is_refused(pretended, monkeypatch):
    import sqlalchemy as sa
    made = sa.create_engine
    def engine(*a, **k): e = made(*a, **k); e.dialect.is_async = True; return e
    monkeypatch.setattr(sa, "create_engine", engine)
    with pytest.raises(InputError, match="postgresql.psycopg://h/d. is an asynchronous"): pretended()

# ---- a server; set MMKIT_LEDGER_SERVER to the address of an empty PostgreSQL database (and install its driver) to run these

@pytest.fixture
def server():
    url = os.environ.get("MMKIT_LEDGER_SERVER") or pytest.skip("no database server: MMKIT_LEDGER_SERVER is not set")
    import sqlalchemy as sa
    engine = sa.create_engine(url)
    def sql(*statements):
        with engine.begin() as c:
            for s in statements: c.exec_driver_sql(s)
    drop = f"DROP TABLE IF EXISTS {TABLE}"; sql(drop); yield url, sql; sql(drop); engine.dispose()

def test_a_server_keeps_the_same(server):
    url, sql = server; l = Ledger(url); assert len(l) == 0 and l.verify() and l.path is None and "@" not in l.name
    jobs = [FORK.Process(target=_write, args=(url, w, 30)) for w in "pqr"]
    for j in jobs: j.start()
    for j in jobs: j.join()
    assert [j.exitcode for j in jobs] == [0, 0, 0] and l.verify() and len(l) == 90
    text = "'; DROP TABLE mmkit_ledger; -- %s :x 日本 😀"; e = l.record((text, "b"), "approve", reason=text, evidence={"nul": "\0", text: 1.5}, **PERSON); seal = l.seal; again = Ledger(url); assert again.current()[(text, "b")] == e and again.verify(seal)
    sql(f"UPDATE {TABLE} SET who = 'x' WHERE row = 40"); assert named(l) == [40] and named(Ledger(url), seal) == [40]
    sql(f"DELETE FROM {TABLE} WHERE row = 91"); assert named(l, seal) == [40, 91]
    with pytest.raises(InputError, match="became shorter"): l.current()

def test_a_server_account_that_may_only_add(server):
    import sqlalchemy as sa
    url, sql = server; Ledger(url).record("x", "defer", **NIGHT); sql("DROP ROLE IF EXISTS clerk", f"CREATE ROLE clerk LOGIN PASSWORD '{SECRET}'", f"GRANT SELECT, INSERT ON {TABLE} TO clerk")
    try:
        clerk = Ledger(sa.make_url(url).set(username="clerk", password=SECRET)); clerk.record("y", "defer", **NIGHT); assert clerk.verify().rows == 2
        sql(f"REVOKE INSERT ON {TABLE} FROM clerk")
        with pytest.raises(InputError, match="InsufficientPrivilege 42501") as e: clerk.record("z", "defer", **NIGHT)
        with pytest.raises(InputError, match="cannot be used") as f: Ledger(sa.make_url(url).set(username="clerk", password="wrong"+SECRET)).record("z", "defer", **NIGHT)
        assert SECRET not in str(e.value)+str(f.value)+repr(clerk)+clerk.name
    finally: sql(f"REVOKE ALL ON {TABLE} FROM clerk", "DROP ROLE clerk")

# ---- exports and feedback

def test_exports_say_the_same(ledger, tmp_path):
    import pandas as pd
    ledger.record(("a0", "b9"), "reject", **PERSON); ledger.record(("a1", "b1"), "approve", **PERSON); ledger.record("lone", "approve", **PERSON); ledger.record(("a3", "b3"), "defer", **PERSON)
    frame, labels = ledger.to_frame(), pd.read_csv(ledger.export_labels(tmp_path/"l.csv")); assert list(labels) == list(LABELS) and list(frame) == list(NAMES) and len(frame) == 11 and len(pd.read_csv(ledger.export(tmp_path/"e.csv"))) == 11
    assert labels[["unique_id_l", "unique_id_r", "clerical_match_score"]].values.tolist() == [["a0", "b9", 0], ["a1", "b1", 1]] and set(labels.source_dataset_l) == {"a"} and set(labels.source_dataset_r) == {"b"}
    assert len(pd.read_csv(ledger.export_labels(tmp_path/"l.csv", "p", "q", actor=None))) == 5 and len(pd.read_csv(ledger.export_labels(tmp_path/"l.csv", actor="machine"))) == 6
    assert json.loads(frame.evidence[0]) == {"p": .9} and frame.subject[0] == "a0 – b0" and "6 by machines, 5 by people" in repr(ledger) and "7 stand" in repr(ledger) and frame.hash.tolist() == [e.hash for e in ledger]
    for f in (ledger.export, ledger.export_labels):
        with pytest.raises(InputError, match="csv"): f(ledger.path)
    with pytest.raises(InputError, match="actor"): ledger.export_labels(tmp_path/"l.csv", actor="robot")

def test_the_page_shows_the_last_twenty(tmp_path):
    l = Ledger(tmp_path/"l.db"); l.record_many([dict(subject=f"s{i}x", decision="defer", **NIGHT) for i in range(25)]); page = l._repr_html_(); assert "s5x" in page and "s24x" in page and "s4x" not in page and repr(l) in page

def test_a_person_outweighs_a_machine(tmp_path):
    l = Ledger(tmp_path/"l.db"); say = lambda a, b, d, who=NIGHT, **k: l.record((a, b), d, **who, **k)
    say("a", "1", "approve", PERSON); say("b", "2", "reject", PERSON); say("c", "3", "approve"); say("d", "4", "reject"); say("e", "5", "approve", PERSON); say("e", "5", "revoke", PERSON, reason="r")
    say("f", "6", "approve", PERSON); say("f", "6", "defer", PERSON); say("g", "7", "reject", PERSON); say("g", "7", "approve", PERSON); l.record("lone", "approve", **PERSON); l.record(("x", "y", "z"), "approve", **PERSON)
    people = ([("a", "1"), ("g", "7")], [("b", "2")]); assert link_feedback(l) == people == link_feedback(l, actor="person")
    say("b", "2", "approve"); say("a", "1", "reject"); say("e", "5", "approve"); assert link_feedback(l) == people  # the next nightly run overrules nobody
    assert link_feedback(l, actor=None) == ([("a", "1"), ("c", "3"), ("g", "7")], [("b", "2"), ("d", "4")]) and link_feedback(l, actor="machine") == ([("c", "3"), ("b", "2"), ("e", "5")], [("d", "4"), ("a", "1")])
    say("a", "9", "approve"); say("h", "3", "approve", PERSON); assert link_feedback(l, actor=None)[0] == [("a", "1"), ("g", "7"), ("h", "3")]  # machines' links that contradict a person's are left out
    with pytest.raises(InputError, match="actor"): link_feedback(l, actor="robot")

@pytest.mark.parametrize("one, two, says", [(("a", "1"), ("a", "2"), "`a` was approved with `1` .row 1, Ōta. and with `2` .row 2, Mori."), (("a", "1"), ("b", "1"), "`1` was approved with `a` .row 1, Ōta. and with `b` .row 2, Mori.")])
@pytest.mark.parametrize("actor", ["person", "machine"])
def test_two_partners_for_one_record_are_named(tmp_path, one, two, says, actor):
    l = Ledger(tmp_path/"l.db"); l.record(one, "approve", who="Ōta", rule="r", actor=actor); l.record(two, "approve", who="Mori", rule="r", actor=actor)
    for a in (actor, None):
        with pytest.raises(InputError, match=says): link_feedback(l, actor=a)
    l.record(two, "revoke", who="Mori", rule="r", actor=actor, reason="wrong"); assert link_feedback(l, actor=actor) == ([one], [])

def test_the_same_id_on_both_sides_is_no_contradiction(tmp_path):
    l = Ledger(tmp_path/"l.db"); l.record_many([dict(subject=s, decision="approve", **PERSON) for s in (("a", "b"), ("b", "a"), ("c", "c"))]); assert len(link_feedback(l)[0]) == 3

# ---- cost

def test_many_rows_are_quick(tmp_path):
    start = time.process_time(); l = Ledger(tmp_path/"l.db"); l.record_many([dict(subject=(f"a{i}", f"b{i}"), decision="approve", evidence={"p": i}, **NIGHT) for i in range(4_000)])
    assert Ledger(l.path).verify().rows == 4_000 and time.process_time()-start < 4

def test_the_module_does_not_load_the_database_library():
    done = subprocess.run([sys.executable, "-c", "import sys; from mmkit.ledger import Ledger; l = Ledger('never-made.db'); print(len(l), 'sqlalchemy' in sys.modules)"], cwd=ROOT, capture_output=True, text=True); assert done.stdout.split() == ["0", "False"], done.stderr
