"Linking graphs: promises, refusals, missing modalities, damaged checkpoints, decisions of people."
import functools, warnings
import numpy as np, pytest
from mmkit.checks import InputError
from mmkit.entities.align import align_entities, compare_methods, plan_runs, trained_views
from mmkit.entities.graphs import MultimodalGraph, emoji_graphs
from mmkit.entities.views import make_spaces, make_views
from mmkit.ledger import Ledger

pytestmark = pytest.mark.slow
QUICK = dict(folds=2, rounds=0, candidates=20)

@functools.cache
def task(): pair = emoji_graphs(rows=180, dangling=.14, seed=7); return pair, *pair.seeds(.4, seed=7)

@functools.cache
def answer(): pair, known, _ = task(); return align_entities(pair.graph_a, pair.graph_b, known, target_precision=.8, **QUICK)

def test_no_seed_is_held_out_of_its_own_fold_and_none_is_lost():
    seeds = np.stack([np.arange(37), np.arange(37)[::-1]], 1)
    for run in plan_runs(seeds, 3, 1):
        parts = [set(map(tuple, x.tolist())) for x in (run.known, run.kept, run.hidden)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2] and set.union(*parts) == set(map(tuple, seeds.tolist()))

def test_the_answer_is_far_above_chance_and_repeats_itself():
    pair, known, others = task(); again = align_entities(pair.graph_a, pair.graph_b, known, target_precision=.8, **QUICK)
    assert again.to_frame().equals(answer().to_frame()) and answer().score(others).hits_1.value > .5 > 20*answer().score(others).hits_1.chance
    f = answer().to_frame(); assert f.confidence.between(0, 1).all() and (f[f.accepted].groupby("a").size() == 1).all() and not f[f.accepted].b.duplicated().any()

def test_wrong_seeds_earn_no_promise():
    pair, known, _ = task(); wrong = known.assign(b=np.roll(known.b.to_numpy(), 5))
    r = align_entities(pair.graph_a, pair.graph_b, wrong, target_precision=.9, **QUICK)
    assert r.refusal and not len(r.accepted) and r.quantities["hits_1"].high < .3 and "no link accepted" in repr(r)

def test_a_confirmed_record_is_never_proposed_again():
    _, known, _ = task(); f = answer().to_frame(); assert not set(f.b) & set(known.b) and not set(f.a) & set(known.a)

def test_a_side_without_pictures_is_still_linked():
    pair, known, others = task(); g = pair.graph_a
    blind = MultimodalGraph(g.ids, g.names, [(g.ids[h], g.relations[r], g.ids[t]) for h, r, t in g.triples], text=g.text)
    r = align_entities(blind, pair.graph_b, known, **QUICK); assert "image" not in r.modalities and r.score(others).hits_1.value > 3*r.score(others).hits_1.chance

def test_nothing_in_common_is_refused_in_words():
    pair, known, _ = task()
    with pytest.raises(InputError, match="share no modality"): align_entities(MultimodalGraph(pair.graph_a.ids), MultimodalGraph(pair.graph_b.ids), known, **QUICK)

def test_relations_to_oneself_are_no_neighbours():
    ids = [f"x{i}" for i in range(6)]; loops = [(i, "r", i) for i in ids]; ring = [(ids[i], "r", ids[(i+1) % 6]) for i in range(6)]
    one, two = (make_spaces(*(MultimodalGraph(ids, triples=t) for _ in "ab")) for t in (ring, ring+loops))
    assert all((x.x_a != y.x_a).nnz == 0 for x, y in zip(one, two))
    with pytest.raises(InputError, match="share no modality"): make_spaces(*(MultimodalGraph(ids, triples=loops) for _ in "ab"))

def test_without_links_only_the_views_that_need_none_are_made():
    pair, _, _ = task(); spaces = make_spaces(pair.graph_a, pair.graph_b); views = make_views(spaces, np.empty((0, 2), int))
    assert {v.name.rpartition(", ")[2] for v in views} == {"same"} and all(np.isfinite(v.z_a).all() for v in views)

def test_a_damaged_checkpoint_is_made_again(tmp_path):
    pair, known, _ = task(); r = align_entities(pair.graph_a, pair.graph_b, known, target_precision=.8, checkpoint=tmp_path/"c", **QUICK)
    files = sorted((tmp_path/"c").glob("*.npz")); files[0].write_bytes(files[0].read_bytes()[:100]); files[1].unlink(); files[2].write_bytes(b"")
    assert align_entities(pair.graph_a, pair.graph_b, known, target_precision=.8, checkpoint=tmp_path/"c", **QUICK).to_frame().equals(r.to_frame())

def test_a_strange_folder_is_left_alone(tmp_path):
    pair, known, _ = task(); (tmp_path/"mine.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"): align_entities(pair.graph_a, pair.graph_b, known, checkpoint=tmp_path, **QUICK)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]

def test_people_are_not_overruled(tmp_path):
    pair, known, _ = task(); sure = answer().accepted; assert len(sure) > 3; ledger = Ledger(tmp_path/"l.db"); no = (sure.a[0], sure.b[0])
    ledger.record(no, "reject", who="Sato", rule="looked", actor="person")
    align_entities(pair.graph_a, pair.graph_b, known, target_precision=.8, ledger=ledger, **QUICK)
    assert ledger.current()[no].decision == "reject" and len(ledger.current("approve")) == len(sure)-1 and ledger.verify()
    again = (sure.a[1], sure.b[1]); ledger.record(again, "revoke", who="Sato", rule="looked", actor="person", reason="unsure")
    align_entities(pair.graph_a, pair.graph_b, known, target_precision=.8, ledger=ledger, **{**QUICK, "candidates": 21}); assert again not in ledger.current()
    after = answer().retrain_with(ledger); assert no not in set(zip(after.to_frame().a, after.to_frame().b))

def test_what_a_rule_no_longer_accepts_is_revoked(tmp_path):
    pair, known, _ = task(); ledger = Ledger(tmp_path/"l.db")
    align_entities(pair.graph_a, pair.graph_b, known, target_precision=.8, ledger=ledger, **QUICK); before = len(ledger.current("approve"))
    with warnings.catch_warnings(): warnings.simplefilter("ignore"); strict = align_entities(pair.graph_a, pair.graph_b, known, target_precision=.999, ledger=ledger, **QUICK)
    assert strict.refusal and before and not ledger.current("approve") and sum(e.decision == "revoke" for e in ledger) == before

def test_fewer_records_than_candidates():
    pair = emoji_graphs(rows=70, seed=3); known, others = pair.seeds(25/70, seed=3)
    r = align_entities(pair.graph_a, pair.graph_b, known, folds=2, rounds=0); assert r.positions.shape == (45, 10) and r.score(others).hits_1.value > .2

@pytest.fixture
def short(monkeypatch):
    import mmkit.entities.model as m
    monkeypatch.setattr(m, "ModelSettings", functools.partial(m.ModelSettings, epochs=4, switch=2, view_width=20, structure_width=16, feature_width=50))

@pytest.mark.filterwarnings("ignore")
def test_an_embedding_stands_in_for_the_views_or_beside_them(short, tmp_path):
    pair, known, others = task(); names = {}
    for method in ("embedding", "both"):
        r = align_entities(pair.graph_a, pair.graph_b, known, method=method, checkpoint=tmp_path/method, **QUICK); names[method] = set(r.modalities)
        assert r.provenance.parameters["method"] == method and r.score(others).hits_1.value > 20*r.score(others).hits_1.chance and len(list((tmp_path/method).glob("embedding_*.npz"))) == 3  # twins share one
        assert align_entities(pair.graph_a, pair.graph_b, known, method=method, checkpoint=tmp_path/method, **QUICK).to_frame().equals(r.to_frame())
    assert "embedding" in names["embedding"] <= names["both"] and set(answer().modalities) < names["both"]

@pytest.mark.filterwarnings("ignore")
def test_the_embedding_leaves_out_what_it_is_told(short):
    pair, known, _ = task(); graphs = pair.graph_a, pair.graph_b; at = np.stack([[pair.graph_a.at[a] for a in known.a], [pair.graph_b.at[b] for b in known.b]], 1)
    assert {v.modality for v in trained_views(graphs, at, ("image", "structure"))} == {"embedding", "name", "text", "relation"}
    with pytest.raises(InputError, match="share nothing an embedding could learn"): trained_views(graphs, at, ("image", "structure", "name", "text", "relation"))

@pytest.mark.filterwarnings("ignore")
def test_methods_are_compared_on_the_same_links(short):
    pair, known, _ = task(); c = compare_methods(pair.graph_a, pair.graph_b, known, ("views", "embedding"), seed=3, **QUICK); g = c.quantities["gain embedding"]
    assert c.worth == "views" and g.value == pytest.approx(c.quantities["embedding"].value-c.quantities["views"].value) and set(c.seconds) == set(c.coverage) == set(c.results) == {"views", "embedding"}
    back = type(c).from_json(c.to_json()); assert back.to_frame().equals(c.to_frame()) and "閉形式" in c.summary("ja") and len(c.verdicts()) == 1
    with pytest.raises(InputError, match="came from a file"): back.results
