"Review of orders: every rule can send an order to a person, texts stay data, heaps stay apart, what comes back is checked element by element."
import json, math, shutil, sqlite3, warnings
from dataclasses import replace
from types import SimpleNamespace
import numpy as np, pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.coherence.decode import decode_many
from mmkit.coherence.recover import Flip, SideOrders
from mmkit.coherence.review import (STUDIO, MarginThreshold, _bar, _longest, accept_orders, approved_orders, audit_error, choose_margin, decide_order, element_ids, explain_flip, explain_flips, export_tasks, import_tasks, route_orders)
from mmkit.coherence.sequences import OrderedRecords, _like
from mmkit.language import MESSAGES
from mmkit.ledger import Ledger

HOSTILE = ["<script>alert(1)</script> Open.", "=HYPERLINK(\"x\")", "</View><b>Pour</b> & wait", "{name} %s \\u202e", "ふたを閉める。\nWait."]

def result_of(truth, strength=4., noise=0., labelled=(), flips=None, seed=0, names=None):
    "A result whose evidence is planted: the true order with a strength, and noise."
    rng, s = np.random.default_rng(seed), truth.a; known = np.isin(np.arange(len(truth)), labelled)
    p = [1/(1+np.exp(-(strength[r] if np.ndim(strength) else strength)*np.subtract.outer(-v, -v)-e+e.T)) for r in range(len(s)) for v in [s.rank[s.rows(r)].astype(float)] for e in [rng.normal(0, noise, (len(v), len(v)))]]
    records = _like(truth, a=replace(s, rank=np.where(known[s.record], s.rank, -1)))
    return SimpleNamespace(records=records, fingerprint=records.fingerprint, sides={"a": SideOrders("a", truth.names[0], p, p, decode_many(p), tuple(flips or [()]*len(p)), "WEAK", known)})

def some(n=8, elements=4, seed=0, **options): return OrderedRecords([[f"step {r} {i}" for i in range(elements)] for r in range(n)], seed=seed, **options)
def flip(alignment, first=0, second=1): return Flip(first, second, .4, .6, (1, 0), .8, alignment, 1)
def keys(routing, record): return [k for k, _ in routing.why[routing._at[record]]]
@pytest.fixture
def ledger(tmp_path): return Ledger(tmp_path/"orders.db")

# ---- routing

def test_each_rule_can_send_an_order_to_a_person(ledger):
    truth = some(); strength = np.full(8, 4.); strength[1] = .1
    flips = [()]*8; flips[2], flips[3], flips[4] = (flip(.5),), (flip(.9), flip(.79)), (flip(.9),)
    result = result_of(truth, strength, flips=flips); importance = {i: 0 for i in truth.ids} | {"r0000": 1}; del importance["r0005"]
    decide_order(ledger, route_orders(result, importance=0, margin=1.), "r0006", "reject", who="kato")
    routing = route_orders(result, importance=importance, margin=1., ledger=ledger, audit=1e-9)
    assert [keys(routing, i) for i in truth.ids[:7]] == [["review_important"], ["review_margin"], ["review_turned"], ["review_turned"], [], ["review_unstated"], ["review_reject"]] or routing.audit[4]
    assert routing.accepted.tolist() == [False, False, False, False, True, False, False, True] and routing.audit.sum() == 1  # one check, however small the share

def test_reasons_add_up_and_are_said_in_both_languages():
    result = result_of(some(2), .1, flips=[(flip(.1),), ()]); routing = route_orders(result, importance=[3, 0], margin=5.)
    assert keys(routing, "r0000") == ["review_important", "review_margin", "review_turned"]
    en, ja = (routing.queue(language=l).why[0] for l in ("en", "ja"))
    assert "important (3; from 1 on a person decides)" in en and "trust 0.10, needed 0.80" in en and "重要度3" in ja and "信頼度0.10" in ja
    assert {"en", "ja"} <= set(MESSAGES["review_flip"]) and "件" in routing.summary("ja") and "review_" not in routing._repr_html_()

def test_without_a_word_on_importance_people_decide_everything(): assert not route_orders(result_of(some(5)), margin=0.).accepted.any()
def test_a_refused_margin_accepts_nothing():
    result = result_of(some(30), labelled=range(10)); t = choose_margin(result); routing = route_orders(result, importance=0)
    assert t.refusal and math.isinf(t.value) and not routing.accepted.any() and "nothing is used unseen" in routing.rule and keys(routing, "r0011") == ["review_refused"]

def test_an_order_that_is_not_proved_best_goes_to_a_person():
    result = result_of(some(3)); s = result.sides["a"]; s.decoded[1] = replace(s.decoded[1], exact=False); s.decoded[2] = replace(s.decoded[2], margin=math.nan)
    assert [keys(route_orders(result, importance=0, margin=0., audit=1), i) for i in ("r0000", "r0001", "r0002")] == [["review_audit"], ["review_inexact"], ["review_inexact"]]

def test_known_and_approved_orders_are_not_open(ledger):
    result = result_of(some(4), labelled=[0]); routing = route_orders(result, importance=0, margin=1.); assert "r0000" not in routing._at
    for i in ("r0001", "r0002", "r0003"): decide_order(ledger, routing, i, "approve", who="kato")
    with pytest.raises(InputError, match="No order of `a` is open"): route_orders(result, importance=0, margin=1., ledger=ledger)
    with pytest.raises(InputError, match="known or approved already"): decide_order(ledger, routing, "r0000", "approve", who="kato")

def test_the_queue_is_sorted_by_importance_then_margin():
    result = result_of(some(6), [3., 1., 2., .5, 4., 1.5]); routing = route_orders(result, importance={f"r{i:04}": v for i, v in enumerate((0, 2, 2, 0, 5))}, margin=100.)
    assert routing.queue().record.tolist() == ["r0005", "r0004", "r0001", "r0002", "r0003", "r0000"]  # unstated first

# ---- audit

def test_the_audit_share_is_the_same_in_every_run_and_about_right():
    truth = some(600, 3); result = result_of(truth); one, two = (route_orders(result, importance=0, margin=1.) for _ in range(2))
    assert (one.audit == two.audit).all() and not (one.audit & ~one.accepted).any() and 15 <= one.audit.sum() <= 47  # 5 % of 600, 99.9 %
    other = route_orders(result, importance=0, margin=1., seed=1); assert (other.audit != one.audit).any()
    part = result_of(truth.select(np.arange(300))); drawn = set(one.ids()[one.audit]) & set(part.records.ids); got = route_orders(part, importance=0, margin=1.); assert set(got.ids()[got.audit]) == drawn  # other records do not matter
    again = route_orders(result_of(some(600, 3, seed=9)), importance=0, margin=1.); assert set(again.ids()[again.audit]) == set(one.ids()[one.audit])  # nor the shuffle

def test_audits_do_not_fall_off_a_short_list():
    routing = route_orders(result_of(some(40)), importance=[0]*20+[1]*20, margin=1., audit=.2); n = int(routing.audit.sum()); assert n > 1
    assert routing.queue(n+2).audit.sum() == n and len(routing.queue(n+2)) == n+2 and routing.queue(1).audit.all()

@pytest.mark.parametrize("wrong, message", [(dict(audit=0), "`audit`"), (dict(importance={"x": 1}), "not there"), (dict(importance=[1, 2]), "2 entries"), (dict(importance=[0, 0, 0, math.inf]), "importance of 'r0003'"), (dict(margin=-1), "`margin`"), (dict(side="b"), "`side`")])
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(InputError, match=message): route_orders(result_of(some(4)), **{"margin": 1., **wrong})

# ---- threshold

def test_groups_of_relatives_are_one_observation():
    alone, related = some(60), some(60, groups=[f"g{i//4}" for i in range(60)])
    assert not choose_margin(result_of(alone, labelled=range(60)), promise=.8).refusal and "15 independent" in choose_margin(result_of(related, labelled=range(60)), promise=.8).refusal

def test_wrong_orders_with_large_margins_are_not_certified():
    truth = some(80); result = result_of(truth, [-4. if r % 3 == 0 else 4. for r in range(80)], labelled=range(80)); t = choose_margin(result, promise=.8)
    assert t.refusal and abs(t.rate.value-2/3) < .1 and "the interval reaches down" in t.refusal

def test_labelled_orders_that_the_rule_would_not_accept_do_not_count():
    flips = [(flip(.1),) if r % 2 else () for r in range(80)]; strength = [-4. if r % 2 else 4. for r in range(80)]
    assert not choose_margin(result_of(some(80), strength, labelled=range(80), flips=flips), promise=.85).refusal
    assert choose_margin(result_of(some(80), strength, labelled=range(80)), promise=.85).refusal

def test_the_bar_is_above_the_plain_one_and_holds():
    assert _bar(200, .8) > 2.3; rng = np.random.default_rng(0); g = np.arange(200)
    broken = np.mean([np.isfinite(_longest(rng.random(200), rng.random(200) < .798, g, .8)[0]) for _ in range(600)]); assert broken < .045

# ---- decisions

def test_decisions_keep_the_chain_and_the_evidence(ledger, tmp_path):
    flips = [()]*8; flips[0] = (flip(.9),)
    result = result_of(some(8, b=[[f"photo {i}" for i in range(4)]]*8), flips=flips); routing = route_orders(result, importance=0, margin=1.); accept_orders(ledger, routing); ids = element_ids(result.records, "a", 0)
    e = decide_order(ledger, routing, "r0000", "edit", who="kato", order=list(ids), reason="x", seconds=3) if list(ids) != [ids[i] for i in result.sides["a"].decoded[0].order] else decide_order(ledger, routing, "r0000", "edit", who="kato", order=list(ids[::-1]), reason="x", seconds=3)
    need = {"matrix", "confidence", "margin", "flips", "order", "proposed", "setting", "audit", "importance", "seconds", "answer", "blind"}
    assert need <= set(e.evidence) and e.actor == "person" and e.evidence["flips"]["partner_first"] == [element_ids(result.records, "b", 0)[1]] and e.evidence["flips"]["alignment"] == [.9] and e.model and e.rule == routing.rule
    ledger.record(e.subject, "revoke", who="kato", actor="person", rule="own mistake", reason="wrong record"); check = ledger.verify(); assert check.sound and check.rows == 10
    copy = tmp_path/"forged.db"; shutil.copy(ledger.path, copy)
    with sqlite3.connect(copy) as c:
        for t in ("update", "delete", "insert"): c.execute(f"DROP TRIGGER mmkit_ledger_no_{t}")
        c.execute("UPDATE mmkit_ledger SET evidence = replace(evidence, '\"edit\"', '\"approve\"')")
    assert not Ledger(copy).verify().sound  # a later hand is seen

def test_the_machine_never_overrules_a_person(ledger):
    result = result_of(some(4)); routing = route_orders(result, importance=0, margin=1.)
    decide_order(ledger, routing, "r0000", "reject", who="kato"); accept_orders(ledger, routing)
    assert ledger.current()[("order", "r0000", "a")].actor == "person" and len(ledger.current(actor="machine")) == 3
    ledger.record(("order", "r0000", "a"), "revoke", who="kato", actor="person", rule="-", reason="not sure"); accept_orders(ledger, routing); assert ("order", "r0000", "a") not in ledger.current()
    assert keys(route_orders(result, importance=0, margin=1., ledger=ledger), "r0000") == ["review_revoke"]

@pytest.mark.parametrize("arguments, message", [(dict(decision="edit"), "no order was given"), (dict(decision="agree"), "`decision`"), (dict(decision="reject", order=[0, 1, 2, 3]), "but an order was given"), (dict(decision="approve", blind=True), "without sight"),
    (dict(decision="edit", order=[0, 1, 2]), "lacks"), (dict(decision="edit", order=[0, 1, 2, 2]), "2 times"), (dict(decision="edit", order=[0, 1, 2, 9]), "names '9', which is no element"), (dict(decision="edit", order="abcd"), "no element"), (dict(decision="edit", order=[True, 0, 1, 2]), "no element"), (dict(decision="edit", order=[[1], 0, 1, 2]), "no element"),
    (dict(decision="defer", seconds=-1), "`seconds`"), (dict(decision="defer", who=" "), "`who`")])
def test_a_wrong_decision_is_refused_and_leaves_no_row(arguments, message, ledger):
    routing = route_orders(result_of(some(3)), importance=0, margin=1.)
    with pytest.raises(InputError, match=message): decide_order(ledger, routing, "r0001", **{"who": "kato", **arguments})
    assert len(ledger) == 0

def test_importance_may_be_any_number_and_a_record_is_named_by_text(ledger):
    routing = route_orders(result_of(some(3)), importance=np.int64(0), margin=1.); assert routing.accepted.all()
    with pytest.raises(InputError, match="`record` is a list"): decide_order(ledger, routing, ["r0001"], "approve", who="kato")

def test_copies_may_swap_without_an_edit(ledger):
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); truth = OrderedRecords([["stir", "wait", "stir"]], seed=3)
    routing = route_orders(result_of(truth), importance=0, margin=0.); order = list(routing.result.sides["a"].decoded[0].order)
    e = decide_order(ledger, routing, "r0000", "approve", who="kato", order=order[::-1]); assert e.evidence["answer"] == "approve"

# ---- feedback

def test_heaps_are_kept_apart_and_survive_another_shuffle(ledger):
    truth = some(6); result = result_of(truth); routing = route_orders(result, importance=[0]*6, margin=1.); accept_orders(ledger, routing); s = result.sides["a"].decoded
    decide_order(ledger, routing, "r0001", "edit", who="kato", order=list(s[1].order[::-1])); decide_order(ledger, routing, "r0002", "approve", who="kato"); decide_order(ledger, routing, "r0003", "approve", who="kato", order=list(s[3].order), blind=True); decide_order(ledger, routing, "r0004", "reject", who="kato")
    for records in (result.records, some(6, seed=5, ordered=False)):
        got = approved_orders(ledger, records); assert (set(got.edited), set(got.accepted), set(got.machine)) == ({"r0001", "r0003"}, {"r0002"}, {"r0000", "r0005"})
        strict, lax = got.labelled(records), got.labelled(records, accepted=True); assert strict.ids[strict.a.labelled].tolist() == ["r0001", "r0003"] and lax.a.labelled.sum() == 3  # nothing of the machine, ever
        assert (strict.a.rank == approved_orders(ledger, truth).labelled(records).a.rank).all()  # names, not positions
        text = lambda r: [lax.a.text[lax.a.rows(r)][i] for i in np.argsort(lax.a.rank[lax.a.rows(r)])]
        assert text(1) == [f"step 1 {i}" for i in (3, 2, 1, 0)] and text(2) == [f"step 2 {i}" for i in range(4)]
    known = got.labelled(truth); assert (known.a.rank == truth.a.rank).all()  # a known order is left as it is

def test_a_record_that_changed_is_out_of_date(ledger):
    routing = route_orders(result_of(some(3)), importance=1, margin=1.)
    for i in ("r0000", "r0001"): decide_order(ledger, routing, i, "approve", who="kato")
    changed = OrderedRecords([["step 0 0", "step 0 1", "step 0 2", "new"], [f"step 1 {i}" for i in range(4)]], ordered=False); got = approved_orders(ledger, changed)
    assert set(got.accepted) == {"r0001"} and got.stale[0][0] == "r0000" and "no element" in got.stale[0][1]
    with pytest.raises(InputError, match="does not belong to these records"): got.labelled(some(1), accepted=True)

def test_links_and_orders_share_a_ledger(ledger):
    ledger.record(("r0000", "a"), "approve", who="kato", actor="person", rule="looked"); routing = route_orders(result_of(some(2)), importance=1, margin=1.); decide_order(ledger, routing, "r0001", "approve", who="kato")
    from mmkit.ledger import link_feedback
    assert link_feedback(ledger) == ([("r0000", "a")], []) and len(approved_orders(ledger, some(2)).accepted) == 1

def test_the_error_rate_counts_checks_only(ledger):
    result = result_of(some(60)); routing = route_orders(result, importance=[0]*40+[1]*20, margin=1., audit=.3); accept_orders(ledger, routing); checks = routing.ids()[routing.audit].tolist(); s = result.sides["a"].decoded
    with pytest.raises(InputError, match=rf"{len(checks)} are drawn"): audit_error(ledger)
    for i in routing.ids()[~routing.accepted]: decide_order(ledger, routing, i, "edit", who="kato", order=list(s[routing.rows[routing._at[i]]].order[::-1]))  # errors where nothing was accepted
    decide_order(ledger, routing, checks[0], "edit", who="kato", order=list(s[int(checks[0][1:])].order[::-1])); decide_order(ledger, routing, checks[1], "approve", who="kato"); decide_order(ledger, routing, checks[2], "defer", who="kato"); decide_order(ledger, routing, checks[3], "reject", who="kato")
    e = audit_error(ledger); assert (e.value, e.n) == (2/3, 3) and e.low < .3 and e.note == f"3 of {len(checks)} drawn checks are done" and audit_error(ledger, rule=routing.rule).n == 3
    with pytest.raises(InputError, match="No check"): audit_error(ledger, rule="another")
    with pytest.raises(InputError, match="No check"): audit_error(ledger, "photos")

# ---- explanations

def test_a_turned_pair_is_explained_even_when_the_partner_is_silent():
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); truth = OrderedRecords([HOSTILE], [HOSTILE[::-1]], names=("steps", "photos"))
    silent = Flip(0, 1, .3, .6, (-1, 2), .9, .2, 2); result = result_of(truth, flips=[(silent, flip(.9))]); f = explain_flips(result); assert f.alignment.tolist() == [.2, .9] and f.partner_first[0] == ""
    assert "No pair of photos" in f.why[0] and "photosに" in explain_flip(result, "a", 0, silent, language="ja") and "check whether" not in f.why[1] and "with trust 0.90" in f.why[1]
    for i in range(5):  # braces and percent signs are no placeholders
        text = " ".join(str(truth.a.text[i]).split())[:20]; assert text in explain_flip(result, "a", 0, replace(flip(.9), first=i, second=i))
    assert len(explain_flips(result_of(some(2)))) == 0

def test_hostile_texts_stay_text():
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); truth = OrderedRecords([HOSTILE], ids=["<img src=x onerror=alert(1)>"])
    page = route_orders(result_of(truth), importance=1, margin=1.)._repr_html_(); assert "<script>" not in page and "<img" not in page and "&lt;script&gt;" in page

# ---- with the real thing

def test_what_recover_order_returns_is_routed_explained_and_kept(ledger):
    from mmkit.coherence.recover import recover_order
    from mmkit.coherence.sequences import synthetic_orders
    w = synthetic_orders(120, (4, 4), noise=(1., .3), cueless=0., seed=2); known = np.arange(120) < 60; hide = lambda s: replace(s, rank=np.where(known[s.record], s.rank, -1)); records = _like(w.records, a=hide(w.records.a), b=hide(w.records.b)); p = [[1/(1+np.exp(-e)) for e in v] for v in (w.log_odds_a, w.log_odds_b)]
    result = recover_order(records, evidence=p, alignment=list(w.aligned), setting="WEAK"); routing = route_orders(result, importance=0, promise=.6); accept_orders(ledger, routing); assert len(routing) == 60 and "WEAK" in routing.model and "mmkit" in routing.model and ledger.verify()
    turned = explain_flips(result); assert len(turned) and (turned.guided > .5).all() and (turned.alone < .5).all() and all(e.evidence["setting"] == "WEAK" and len(e.evidence["matrix"]) == 32 for e in ledger)
    for r in range(3): decide_order(ledger, routing, records.ids[60+r], "edit", who="kato", order=list(result.sides["a"].decoded[60+r].order[::-1]))
    more = approved_orders(ledger, records).labelled(records); again = recover_order(more, evidence=p, alignment=list(w.aligned), setting="WEAK"); assert again.sides["a"].labelled.sum() == 63
    from mmkit.coherence.recover import CoherenceResult
    with pytest.raises(InputError, match="Attach them"): route_orders(CoherenceResult.from_json(result.to_json()), importance=0)

# ---- Label Studio

@pytest.fixture
def desk(tmp_path):
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); truth = OrderedRecords([HOSTILE, *[[f"step {r} {i}" for i in range(4)] for r in range(9)]])
    result = result_of(truth, .8, noise=1.); routing = route_orders(result, importance=0, margin=1., audit=.5); path = export_tasks(routing, tmp_path/"tasks.json"); return truth, routing, json.loads(path.read_text()), tmp_path/"export.json"

def answered(truth, tasks, way=1):
    "The export after somebody who knows the truth has answered."
    out = []
    for n, t in enumerate(json.loads(json.dumps(tasks))):
        r = truth.ids.tolist().index(t["data"]["record"]); ids = element_ids(truth, "a", r); order = [ids[i] for i in np.argsort(truth.a.rank[truth.a.rows(r)])][::way]
        out.append(dict(t, id=n, annotations=[dict(id=n+50, completed_by=7, lead_time=4.2, was_cancelled=False, result=[dict(id="r", from_name="order", to_name="elements", type="ranker", value={"ranker": {"order": order}}), dict(id="v", from_name="verdict", to_name="elements", type="choices", value={"choices": ["ordered"]})])]))
    return out

def test_the_round_trip(desk, ledger):
    truth, routing, tasks, path = desk; path.write_text(json.dumps(answered(truth, tasks))); accept_orders(ledger, routing); answers = import_tasks(path, routing, ledger=ledger); assert len(answers) == len(tasks) == len(routing.queue()) and ledger.verify()
    got = approved_orders(ledger, routing.result.records); back = got.labelled(routing.result.records, accepted=True); assert not got.stale and back.a.labelled.sum() == len(tasks)
    for r in np.flatnonzero(back.a.labelled): assert (back.a.rank[back.a.rows(r)] == truth.a.rank[truth.a.rows(r)]).all()
    assert {a["record"] for a in answers if a["blind"]} == set(routing.ids()[routing.audit]) and all(a["seconds"] == 4.2 and a["who"] == "Label Studio user 7" for a in answers)
    rows = len(ledger); import_tasks(path, routing, ledger=ledger); assert len(ledger) == rows

def test_texts_leave_as_text_and_names_tell_nothing(desk):
    truth, routing, tasks, _ = desk; cards = [c for t in tasks for c in t["data"]["items"]]; assert not any("html" in c for c in cards)
    if "r0000" in [t["data"]["record"] for t in tasks]: assert set(HOSTILE) <= {c["body"] for c in cards}
    places = [[c["body"] for c in t["data"]["items"]] for t in tasks if t["data"]["record"] != "r0000"]; assert any(p != sorted(p) for p in places) and all(c["id"][0] == "e" for c in cards)
    import xml.etree.ElementTree as tree
    controls = {e.get("name"): e.tag for e in tree.fromstring(STUDIO).iter() if e.get("name")}; assert controls == {"question": "Text", "elements": "List", "order": "Ranker", "verdict": "Choices"}
    assert all(p["result"][0]["from_name"] == "order" and p["result"][0]["to_name"] == "elements" for t in tasks for p in t.get("predictions", ()))

def first(tasks): return tasks[0]["annotations"][0]
def order(tasks): return first(tasks)["result"][0]["value"]["ranker"]["order"]
def twin(tasks): tasks[0]["annotations"].append(json.loads(json.dumps(first(tasks)))); order(tasks).reverse()
FAULTS = {"lacks": lambda t: order(t).pop(), "2 times": lambda t: order(t).__setitem__(0, order(t)[1]), "no element": lambda t: order(t).__setitem__(0, "e0"), "names 'None'": lambda t: order(t).__setitem__(0, None), "There is no record 'x'": lambda t: t[0]["data"].update(record="x"), "are not the elements": lambda t: t[0]["data"]["items"].pop(),
    "proposal of another run": lambda t: t[0]["data"].update(matrix="0"), "is about 'b'": lambda t: t[0]["data"].update(modality="b"), "disagree": twin, "one list of elements": lambda t: first(t)["result"][0]["value"].update(ranker={"_": [], "best": []}), "no order": lambda t: first(t)["result"].pop(0),
    "its verdict is": lambda t: first(t)["result"][1]["value"].update(choices=["yes"]), "not of the type": lambda t: first(t)["result"][0].update(type="choices"), "several tasks": lambda t: t.append(t[0]), "not a list of answers": lambda t: t[0].update(annotations=[3]), "but the record is no check": lambda t: t[0]["data"].update(blind=True), "2 answers to": lambda t: first(t)["result"].append(first(t)["result"][0])}
@pytest.mark.parametrize("message", FAULTS)
def test_a_planted_fault_is_named_and_nothing_is_written(message, desk, ledger):
    truth, routing, tasks, path = desk; tasks.sort(key=lambda t: t["data"]["blind"]); t = answered(truth, tasks); name = t[0]["data"]["record"]; assert not t[0]["data"]["blind"]; FAULTS[message](t); path.write_text(json.dumps(t))
    with pytest.raises(InputError, match=message) as e: import_tasks(path, routing, ledger=ledger)
    assert (name in str(e.value) or "'x'" in str(e.value)) and len(ledger) == 0
    with pytest.warns(WeakInputWarning, match="left out"): rest = import_tasks(path, routing, ledger=ledger, skip_faulty=True)
    assert len(rest) == len(tasks)-1 == len(ledger) and name not in {a["record"] for a in rest}

def test_a_blind_task_handed_in_untouched_is_no_answer(desk):
    truth, routing, tasks, path = desk; t = answered(truth, tasks); blind = next(x for x in t if x["data"]["blind"]); a = blind["annotations"][0]; a["result"] = [dict(a["result"][0], value={"ranker": {"order": [c["id"] for c in blind["data"]["items"]]}})]; path.write_text(json.dumps([blind]))
    with pytest.raises(InputError, match="nobody looked at"): import_tasks(path, routing)

def test_skipped_rejected_and_unanswered(desk):
    truth, routing, tasks, path = desk; t = answered(truth, tasks)[:3]; t[0]["annotations"][0].update(was_cancelled=True, result=[]); t[1]["annotations"][0]["result"][1]["value"]["choices"] = ["reject"]; t[2]["annotations"] = []; path.write_text(json.dumps(t))
    assert [(a["answer"], a["order"]) for a in import_tasks(path, routing)] == [("defer", None), ("reject", None)]

@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", '[{"data": {}}]', '[{"data": {"record": 5}}]', "["*100_000, '[{"id": 1, "items": []}]', "\xff"])
def test_a_file_that_is_no_export_is_refused(content, desk):
    *_, routing, _, path = desk; path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match="Export the project"): import_tasks(path, routing)

def test_pictures_need_an_address(tmp_path):
    photo = lambda v: {"image": np.full((4, 4, 3), v, np.uint8), "handle": f"{v} \"x\".jpg"}; truth = OrderedRecords([[photo(i) for i in range(3)]]); routing = route_orders(result_of(truth), importance=1, margin=1.)
    with pytest.raises(InputError, match="has no text"): export_tasks(routing, tmp_path/"t.json")
    with pytest.raises(InputError, match="javascript"): export_tasks(routing, tmp_path/"t.json", pictures=lambda h: "javascript:alert(1)")
    with pytest.raises(InputError, match="does not end in"): export_tasks(routing, tmp_path/"t.txt")
    cards = json.loads(export_tasks(routing, tmp_path/"t.json", pictures=lambda h: f"https://x.example/{h}?a=1&b").read_text())[0]["data"]["items"]; assert all(c["html"].count('"') == 4 and "&quot;x&quot;.jpg?a=1&amp;b" in c["html"] for c in cards)

def test_a_threshold_travels():
    from mmkit.results import from_plain, to_plain
    t = choose_margin(result_of(some(60), labelled=range(60)), promise=.8); assert from_plain(json.loads(json.dumps(to_plain(t)))) == t and isinstance(t, MarginThreshold)
