"The synthetic study: an exact law, encoders that do not depend on their company, scores that agree with their definitions, runs that survive a kill."
import itertools, math, warnings
import numpy as np, pytest
from scipy import stats
from conftest import ROOT, run
from mmkit.alignment.similarity import similarity
from mmkit.alignment.study import (CLASSES, FACTS, SCORES, SMALL, SPLITS, StudyGrid, StudyPolicy, StudyRecipe, StudyResult, _scores, _Study, alignment_trend, best_alignment, bit_patterns, calibrated_scores,
    cell_correlations, correlate, correlation_gap, label_law, modality_posterior, pooled_correlation, run_study, sample_study, scored_rows, seed_interval, stack_scores, study_correlation, study_law, study_records,
    train_encoders, transform, transform_difficulty)
from mmkit.checks import InputError
from mmkit.interactions.pid import LN2, mutual_information
from mmkit.results import Provenance, Result

# arXiv 2502.16282, released constants: I(X_a;Y), I(X_b;Y), I(shared bits;Y), sum minus joint (nats), Bayes accuracies
PUBLISHED = np.array([[1.159, 1.159, 1.159, 1.159, .9063, .9063], [.972, 1.159, .972, .972, .7994, .9063], [.972, .881, .715, .693, .7994, .7363], [.715, .887, .494, .443, .6663, .7446], [.715, .733, .367, .290, .6663, .7083],
    [.494, .772, .259, .106, .5787, .7367], [.494, .608, .152, -.058, .5787, .6512], [.367, .619, .088, -.173, .5412, .6467], [.367, .473, 0, -.319, .5412, .5952]])
TINY = StudyGrid(uniqueness=(0, 8), heterogeneity=(1, 3), depth=(1, 2), seeds=(4,), n=3000)
USUAL = ("unbiased_cka", "mutual_knn", "svcca")
QUICK, LESS = StudyRecipe(epochs=2, epochs_a=2, batch_size=128), dict(rows=120, k=20, n_null=19)

@pytest.mark.parametrize("u", range(9))
def test_the_law_is_the_published_one(u):
    w = study_law(u); nats = LN2*np.array([w.info_a, w.info_b, w.info_shared, w.info_a+w.info_b-w.info_joint])
    assert np.abs(nats-PUBLISHED[u, :4]).max() < 5.1e-4 and np.abs(np.subtract([w.bayes_a, w.bayes_b], PUBLISHED[u, 4:])).max() < 5.1e-5
    assert abs(w.info_joint*LN2-1.1588) < 5e-5 and abs(w.info_joint-study_law(0).info_joint) < 1e-12 and abs(w.bayes_joint-.9063) < 5e-5
    assert w.redundancy <= min(w.info_a, w.info_b)+1e-6 and min(w.unique_a, w.unique_b, w.synergy) > -1e-6

@pytest.mark.parametrize("u", (0, 3, 8))
def test_the_law_agrees_with_all_65536_states_of_the_world(u):
    "Enumerated the long way: every state of the world, one by one."
    w = study_law(u); bits = bit_patterns(16); a, b = bits[:, :12].astype(int), bits[:, [*range(8), *range(12, 16)]].astype(int)
    f = np.hstack([a[:, list(w.bits_a)], b[:, [c for c in w.bits_b if c >= 8]]]); p = label_law()[f @ (1 << np.arange(7, -1, -1))]
    for modality, seen, info, best in (("a", a, w.info_a, w.bayes_a), ("b", b, w.info_b, w.bayes_b)):
        table = np.zeros((4096, CLASSES)); np.add.at(table, seen @ (1 << np.arange(11, -1, -1)), p/16)
        np.testing.assert_allclose(table, modality_posterior(w, modality), atol=1e-12)
        assert abs(mutual_information(table/4096)-info) < 1e-9 and abs(table.max(1).mean()-best) < 1e-12
    assert len(set(w.bits_a)) == len(w.bits_a) == 8-u+u//2 and [c for c in w.bits_a if c < 8] == [c for c in w.bits_b if c < 8]

def test_classes_are_balanced_and_the_cache_cannot_be_spoilt():
    assert np.allclose(label_law().mean(0), .25, atol=.01) and np.abs(label_law().mean(0)-(.255, .242, .259, .245)).max() < 6e-4
    with pytest.raises(ValueError): label_law()[0, 0] = 1

def test_draws_follow_the_law():
    w = study_law(5); d = sample_study(w, 65_536, 3)
    assert [len(d.rows(s)) for s in SPLITS] == [45_875, 9_831, 9_830] and (d.a >> 4 == d.b >> 4).all()
    shares = np.array([np.bincount(d.y[d.rows(s)], minlength=4)/len(d.rows(s)) for s in SPLITS]); assert np.ptp(shares, 0).max() < 2e-4 # stratified
    counts = np.zeros((4096, 4)); np.add.at(counts, (d.b, d.y), 1); expected = counts.sum(1, keepdims=True)*modality_posterior(w, "b"); big = expected > 2
    chi = ((counts-expected)**2/np.maximum(expected, 1e-9))[big].sum(); assert stats.chi2.sf(chi, big.sum()*3/4) > 1e-4
    again, other = sample_study(w, 65_536, 3), sample_study(study_law(6), 65_536, 3)
    assert (again.y == d.y).all() and (again.split == d.split).all() and (other.a == d.a).all() and (other.y != d.y).any() and (sample_study(w, 65_536, 4).a != d.a).any()

def test_scored_rows_hold_no_copies():
    d = sample_study(study_law(2), 20_000, 1); r = scored_rows(d, 300)
    assert len(set(d.a[r])) == len(set(d.b[r])) == 300 and (d.split[r] == 2).all()
    with pytest.raises(InputError, match="only .* test records"): scored_rows(d, 2900)

def test_the_transform_is_the_frozen_network_and_leaves_random_numbers_alone():
    import torch
    torch.manual_seed(11); before = torch.get_rng_state(); x = bit_patterns(12)[::37]; z = transform(x, 4, seed=7)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(7); nets = []
    for d in range(5): nets.append(torch.nn.Sequential(torch.nn.Linear(12, 12), *itertools.chain(*((torch.nn.Tanh(), torch.nn.Linear(12, 12)) for _ in range(d)))))
    with torch.no_grad(): np.testing.assert_allclose(nets[4].double()(torch.as_tensor(x)).numpy(), z, atol=1e-12)
    hard = [transform_difficulty(d) for d in (0, 1, 5)]
    assert abs(hard[0]["r2"]-1) < 1e-9 and 60 < hard[1]["condition"] < 80 and 8e3 < hard[2]["condition"] < 1e4 and .76 < hard[1]["r2_low"] < hard[1]["r2_high"] < .96

@pytest.mark.parametrize("metric", USUAL)
def test_stacks_agree_with_the_definitions(metric):
    rng = np.random.default_rng(0); a, layers = rng.normal(size=(60, 12)), [rng.normal(size=(60, 12)) for _ in range(3)]; layers.append(a+.5*layers[0])
    orders = np.stack([np.arange(60), *(rng.permutation(60) for _ in range(40))]); found = stack_scores(a, layers, orders, metric, 7)
    for i in (0, 1, 40): np.testing.assert_allclose(found[i], [similarity(a, x[orders[i]], metric=metric, k=7) for x in layers], atol=1e-6)
    rotated = a @ np.linalg.qr(rng.normal(size=(12, 12)))[0]*3
    if metric != "svcca": np.testing.assert_allclose(stack_scores(rotated, layers, orders, metric, 7), found, atol=1e-6) # SVCCA standardises columns
    assert (found[0, 3] > found[1:, 3]).all() # related layers stand out

def test_calibration_keeps_its_level():
    rng = np.random.default_rng(1); m = calibrated_scores(rng.normal(size=(101, 5_000, 6)).max(2), 99.)
    assert abs((m[:, 4] > 0).mean()-5/101) < .012 and stats.kstest(m[:, 3], "uniform").statistic < .03
    assert calibrated_scores(np.r_[.9, np.full(99, .2)][:, None])[0, 4] == pytest.approx((.9-.2)/.8) and calibrated_scores(np.full((20, 1), .3))[0, 3] == 1

@pytest.fixture(scope="module")
def worlds(): return {(4, u): sample_study(study_law(u), 4000, 4) for u in (0, 4, 8)}

def test_a_model_does_not_depend_on_its_company(worlds):
    import torch
    threads = torch.get_num_threads(); keys = [(4, u, d) for u in (0, 4, 8) for d in (1, 9)]
    many, again = (train_encoders(worlds, keys, 3, recipe=QUICK) for _ in range(2)); alone = train_encoders(worlds, keys[2:3], 3, recipe=QUICK)
    assert torch.get_num_threads() == threads and all(torch.equal(p, q) for p, q in zip(many.weights+many.biases, again.weights+again.biases))
    for p, q in zip(many.weights+many.biases, alone.weights+alone.biases): np.testing.assert_allclose(p[2], q[0], atol=2e-4)
    assert (many.predicted[2] != alone.predicted[0]).mean() < .01 and many.validation[2] == pytest.approx(alone.validation[0], abs=.01)
    np.testing.assert_allclose(many.layers(2, np.arange(50))[2], alone.layers(0, np.arange(50))[2], atol=1e-3)

def test_an_encoder_learns_what_the_law_allows_and_no_more(worlds):
    e = train_encoders(worlds, [(4, u, 0) for u in (0, 4, 8)], 1, "a", StudyRecipe(epochs_a=12, batch_size=128))
    for m, u in enumerate((0, 4, 8)):
        w = study_law(u); expected = modality_posterior(w, "a")[np.arange(4096), e.predicted[m]].mean()
        assert expected <= w.bayes_a+1e-12 and expected > w.bayes_a-.03
    h = e.layers(0, np.arange(4096))[0]; assert h.shape == (4096, 12) and h.dtype == np.float64 and e.epoch.min() >= 1

@pytest.fixture(scope="module")
def tiny(): return run_study(TINY, QUICK, **LESS)

def test_the_result_shows_itself(tiny):
    f = tiny.frame(); assert len(f) == TINY.models == 8 and not f.isna().any().any() and {"U", "D_phi", "D_Enc", "seed", "bayes", *FACTS, *(f"{m}_{s}" for m in USUAL for s in SCORES)} <= set(f)
    n = 450; assert (f.accuracy <= f.bayes+4*np.sqrt(f.bayes*(1-f.bayes)/n)).all() and (f.expected <= f.bayes+1e-9).all()
    assert f[f.U == 0].unbiased_cka_raw.min() > f[f.U == 8].unbiased_cka_raw.max() and abs(f.mutual_knn_chance-20/119).max() < .03
    assert (f.mutual_knn_p_value >= .05).all() and (f.mutual_knn_calibrated >= 0).all() # 19 shuffles: 1/20 at best
    back = StudyResult.from_json(tiny.to_json()); assert back.frame().equals(f) and back.grid == TINY and back.recipe == QUICK
    assert "8" in tiny.summary("en") and "8個" in tiny.summary("ja")

def same(a, b): return all(np.array_equal(a.cells[k], b.cells[k]) for k in a.cells) and all(np.array_equal(a.reference[k], b.reference[k]) for k in a.reference)

def test_a_stopped_run_continues_and_gives_the_same(tiny, tmp_path):
    file, told = tmp_path/"study.npz", []
    def stop(done, total, what):
        if done == 5: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): run_study(TINY, QUICK, **LESS, resume=file, progress=stop)
    with np.load(file, allow_pickle=False) as z: assert {"a/4/facts", "a/4/hidden", "b/4/1"} <= set(z.files) and "b/4/2" not in z.files
    whole = run_study(TINY, QUICK, **LESS, resume=file, progress=lambda *t: told.append(t)); assert same(whole, tiny) and told == [(5, 6, "training"), (6, 6, "training")]
    assert same(run_study(TINY, QUICK, **LESS, resume=file, progress=pytest.fail), tiny) # nothing left to train
    wider = run_study(StudyGrid(TINY.uniqueness, TINY.heterogeneity, (1, 2), (4, 5), TINY.n), QUICK, **LESS, resume=file); assert np.array_equal(wider.cells["accuracy"][0], tiny.cells["accuracy"][0])
    with pytest.raises(InputError, match="`recipe`"): run_study(TINY, StudyRecipe(epochs=3), **LESS, resume=file)
    file.write_bytes(b"PK broken")
    with pytest.raises(InputError, match="damaged"): run_study(TINY, QUICK, **LESS, resume=file)

KILLED = """
import os, sys; sys.path.insert(0, "tests")
from test_study import TINY, QUICK, LESS, run_study
run_study(TINY, QUICK, **LESS, resume=sys.argv[1], progress=lambda done, total, what: os._exit(9) if done == 5 else None)
"""
def test_a_killed_process_loses_one_part_at_most(tiny, tmp_path):
    file = tmp_path/"killed.npz"; assert run("-c", KILLED, file, cwd=ROOT, check=False).returncode == 9
    left = []; assert same(run_study(TINY, QUICK, **LESS, resume=file, progress=lambda *t: left.append(t)), tiny) and len(left) == 2 and [p.name for p in tmp_path.iterdir()] == ["killed.npz"]

def test_collapsed_encoders_have_no_alignment():
    rng = np.random.default_rng(0); study = _Study(None, None, USUAL, 10, 60, 19, None, None); h, flat = rng.normal(size=(60, 12)), np.ones((60, 12))
    s = _scores(study, 0, 0, h, [[flat], [flat, h]]).reshape(2, 3, 5); assert (s[0, :, 0] == 0).all() and (s[0, :, 3] == 1).all() and s[1, :, 0] == pytest.approx(1, abs=1e-4)
    s = _scores(study, 0, 0, h, [[flat], [flat]]); assert (s.reshape(2, 3, 5)[:, :, 4] == 0).all()

def made(cells_of, grid=None):
    "A result with planted numbers."
    grid = grid or StudyGrid(seeds=(0, 1, 2, 3, 4), heterogeneity=(1, 3, 5)); shape = tuple(len(v) for v in (grid.seeds, grid.uniqueness, grid.heterogeneity, grid.depth))
    s, u, d, depth = np.meshgrid(*(np.array(v, float) for v in (grid.seeds, grid.uniqueness, grid.heterogeneity, grid.depth)), indexing="ij")
    cells = {"accuracy": depth, "expected": np.full(shape, .5), "bayes": np.full(shape, .6)} | {f"unbiased_cka_{k}": np.zeros(shape) for k in SCORES} | cells_of(s, u, d, depth)
    return StudyResult(Provenance("", 0., None, {}, "", {}, ""), grid, StudyRecipe(), ("unbiased_cka",), 100, 512, 100, {k: v*np.ones(shape) for k, v in cells.items()}, {})

def test_planted_relations_are_found_and_absent_ones_are_not():
    noise = np.random.default_rng(0).normal(size=(5, 9, 3, 10)); shared = lambda s, u, d, depth: dict(unbiased_cka_raw=np.where(u <= 4, depth, noise)-20*u, unbiased_cka_calibrated=np.where(u <= 4, depth, 0.))
    r = made(shared); e = r.estimates()
    assert e["falls_with_uniqueness"].value == -1 and e["falls_with_uniqueness"].low == -1 and e["tells_when_shared"].value == pytest.approx(1) and abs(e["tells_when_private"].value) < .3
    assert alignment_trend(r, "uniqueness", 3, levels=range(8)).value == -1 and np.isnan(alignment_trend(made(lambda *a: {}), "uniqueness", 1).value)
    assert r.verdicts()[0].value == "pass" and r.verdicts(StudyPolicy(.99))[0].value in ("not_enough_evidence", "fail") and correlation_gap(r).low > .3
    gone = study_correlation(r, "unbiased_cka", levels=[8], score="calibrated"); assert np.isnan(gone.value) and np.isnan(gone.low) and "100%" in gone.note
    assert study_correlation(r, "depth").value == pytest.approx(1) and best_alignment(r).shape == (5, 9, 3) and pooled_correlation(r).n == 1350
    back = made(lambda s, u, d, depth: dict(unbiased_cka_raw=-depth)); assert back.estimates()["tells_when_shared"].value == pytest.approx(-1) and back.verdicts()[0].value == "fail"
    for language in ("en", "ja"): assert r.verdicts()[0].text("what", language) and r.summary(language) and r._repr_html_(language).count("<tr>") == 6
    assert r.plot(language="ja") and isinstance(r, Result)

def test_two_seeds_have_no_interval_and_no_verdict():
    r = made(lambda s, u, d, depth: dict(unbiased_cka_raw=depth-20*u), StudyGrid(seeds=(0, 1)))
    assert all(np.isnan(e.low) for e in r.estimates().values()) and r.verdicts()[0].value == "not_enough_evidence" and "seeds" in r.verdicts()[0].text("next_step")

def test_statistics():
    rng = np.random.default_rng(2); x, y = rng.integers(0, 4, (2, 5, 30))
    for i in range(5): assert correlate(x, y)[i] == pytest.approx(stats.spearmanr(x[i], y[i])[0]) and correlate(x, y, "pearson")[i] == pytest.approx(stats.pearsonr(x[i], y[i])[0])
    sets = rng.normal(size=(300, 4)); classical = [stats.t.interval(.95, 3, s.mean(), s.std(ddof=1)/2) for s in sets]
    ours = [seed_interval(lambda at: s[at].mean(), 4, (-99, 99)) for s in sets]; assert np.mean([a <= 0 <= b for a, b in ours]) == pytest.approx(np.mean([a <= 0 <= b for a, b in classical]), abs=.03)
    assert seed_interval(lambda at: .99+.1*at.mean(), 3)[1] == 1. # a correlation stays a correlation

@pytest.mark.parametrize("call, word", [
    (lambda: study_law(9), "uniqueness"), (lambda: study_law(2.5), "uniqueness"), (lambda: sample_study(study_law(0), 10), "`n`"), (lambda: sample_study(study_law(0), 100, -1), "seed"),
    (lambda: transform(np.zeros((3, 5)), 1), "columns"), (lambda: transform(np.full((3, 12), np.nan), 1), "NaN"), (lambda: transform(np.zeros((3, 12)), 11), "heterogeneity"), (lambda: modality_posterior(study_law(0), "c"), "modality"),
    (lambda: StudyGrid(uniqueness=()), "uniqueness"), (lambda: StudyGrid(depth=("3",)), "depth"), (lambda: StudyGrid(seeds=(-1,)), "seeds"), (lambda: StudyGrid(n=50), "`n`"), (lambda: StudyRecipe(epochs=0), "epochs"),
    (lambda: StudyRecipe(rate=math.inf), "rate"), (lambda: run_study("small"), "a str, but a StudyGrid"), (lambda: run_study(TINY, metrics="mutual_nn"), "mutual_knn"), (lambda: run_study(TINY, metrics=()), "metrics"),
    (lambda: run_study(TINY, rows=512), "rows"), (lambda: run_study(TINY, rows=100, k=100), "`k`"), (lambda: run_study(TINY, rows=100, k=10, n_null=5), "n_null"),
    (lambda: run_study(TINY, QUICK, **LESS, resume="no/such/folder/x.npz"), "resume"), (lambda: train_encoders({}, [(0, 0, 1)], 1), "no data"), (lambda: train_encoders({}, [], 1), "0 models"),
    (lambda: alignment_trend(made(lambda *a: {}), "width"), "along"), (lambda: alignment_trend(made(lambda *a: {}), at=2), "at"), (lambda: alignment_trend(made(lambda *a: {}), levels=(0, 1)), "three levels"),
    (lambda: study_correlation(made(lambda *a: {}), "svcca"), "name"), (lambda: study_correlation(made(lambda *a: {}), "unbiased_cka", levels=[11]), "levels"),
    (lambda: cell_correlations(made(lambda *a: {}), "unbiased_cka", method="kendall"), "method"), (lambda: best_alignment(made(lambda *a: {}), score="best"), "score")])
def test_hostile_input(call, word):
    with pytest.raises(InputError, match=word): call()

def test_records_for_other_rooms():
    r = study_records(8, 9, 500, seed=2); assert len(r.label) == 500 and set(r.groups["split"]) == set(SPLITS) and r.modalities["b"].shape == (500, 12)
    assert study_records(8, 9, 500, seed=2).fingerprint == r.fingerprint != study_records(8, 9, 500, seed=3).fingerprint and SMALL.models == 120
