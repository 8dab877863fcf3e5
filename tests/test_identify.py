"Identify: canonical directions, knee, reference, probes, verdicts that never contradict their number, and inputs that must be refused."
import itertools, json, math
import numpy as np
import pytest
from mmkit.checks import InputError
from mmkit.language import LANGUAGES, say
from mmkit.misalignment import identify as I
from mmkit.misalignment.contrastive import draw_pairs, latent_model
from mmkit.misalignment.identify import IdentifyPolicy, code_axes, find_knee, gaussian_reference, identify, screen, word_for
from mmkit.results import Estimate

pytest.importorskip("torch")

# ---- canonical directions and knee -----------------------------------------------------------------------------------

def test_code_axes_match_scikit_learn_and_ignore_linear_maps():
    from sklearn.cross_decomposition import CCA
    r = np.random.default_rng(0); s = r.normal(size=(2000, 2)); x, y = (np.c_[s+e*r.normal(size=s.shape), r.normal(size=(2000, 1))] for e in (.2, .6))
    _, _, rho = code_axes(x, y); u, v = CCA(3, max_iter=3000, tol=1e-10).fit_transform(x, y)
    assert np.allclose(rho, [np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3)], atol=1e-3)
    assert np.allclose(code_axes(x @ r.normal(size=(3, 3))+5, y @ r.normal(size=(3, 3)))[2], rho, atol=1e-3)

def test_code_axes_with_a_constant_column():
    r = np.random.default_rng(0); x = r.normal(size=(500, 2)); a, b, rho = code_axes(np.c_[x, np.ones(500)], x); assert np.allclose(rho, 1, atol=1e-4) and a.shape == (3, 2)

@pytest.mark.parametrize("rho, knee, sure", [([1.], 1, True), ([.3], 1, False), ([.99]*10, 10, True), ([.99]*5+[.75]*5, 5, True), ([.96, .75], 1, True), ([.9, .8, .7, .6], 4, False), ([0, 0, 0], 3, False), ([.8, .1], 1, False)])
def test_knee(rho, knee, sure): assert find_knee(rho) == (knee, sure)

def test_reference_against_regression():
    m = latent_model((1, 4, 5), dependent=True, seed=5); s = draw_pairs(m, 60_000).s; X = s[:, [0, 3, 4]]; fit = X @ np.linalg.lstsq(X, s, rcond=None)[0]
    assert np.allclose(gaussian_reference(m.cov_s, m.kept), 1-((s-fit)**2).mean(0)/s.var(0), atol=.02)
    assert np.allclose(gaussian_reference(np.ones((3, 3)), (1,)), 1)  # a singular covariance

# ---- probes and screen -----------------------------------------------------------------------------------------------

def test_linear_world_is_solved_in_closed_form():
    m = latent_model((1, 2, 3), mixing="linear", n_factors=5, n_private=2); p, q = draw_pairs(m, 20_000, 1), draw_pairs(m, 5000, 2)
    axes, _, rho = code_axes(p.x_a, p.x_b); r2 = I._r_squared(q.s, I.linear_probe(p.x_a @ axes[:, :3], p.s, q.x_a @ axes[:, :3]))
    assert np.allclose(rho[:3], 1, atol=1e-4) and (r2[:3] > .999).all() and (r2[3:] < .01).all()

def test_closed_form_sees_more_than_lines():
    r = np.random.default_rng(0); s = r.normal(size=(6000, 1)); x, y = np.c_[s, r.normal(size=(6000, 1))], np.c_[np.abs(s), r.normal(size=(6000, 1))]; lines = code_axes(x, y)[2][0]
    f, g = I.closed_form(x, y, I.random_features(x), I.random_features(y)); assert abs(np.corrcoef(f(x)[:, 0], g(y)[:, 0])[0, 1]) > .95 > .2 > lines

def test_unrelated_modalities_agree_on_nothing():
    r = np.random.default_rng(0); x, y, x2, y2 = r.normal(size=(4, 8000, 4)); f, g = I.closed_form(x, y, I.random_features(x), I.random_features(y)); assert np.abs(I.paired_correlations(f(x2), g(y2))).max() < .08

# ---- words -----------------------------------------------------------------------------------------------------------

def test_words_never_contradict_numbers():
    r = np.random.default_rng(0); seen = set()
    for _ in range(3000):
        v, h, ref, told = r.uniform(-.05, 1), r.exponential(.05), r.choice([0., r.random()]), bool(r.random() < .5); ref = 1. if told else ref
        e, p = Estimate(v, v-h, v+h, ref, 100), IdentifyPolicy(); w = word_for(e, ref, told); seen.add(w)
        if w == "kept": assert told and e.low > p.kept
        if w == "excluded": assert not told and e.high < ref+p.excess and ref <= p.excess
        if w == "excluded-but-predictable": assert not told and ref > p.excess and abs(v-ref) <= p.excess
        if w == "leaked": assert not told and e.low > ref+p.excess
        if told: assert w in ("kept", "not enough evidence")   # a lagging factor is never "excluded"
        assert word_for(e, ref, told, readable=False) == "not enough evidence"
    assert seen == set(I.WORDS)

def test_combine_with_one_and_with_three_trainings():
    b = np.random.default_rng(0).normal(.5, .01, (10, 2)); e = I.combine([[.5, .5]], b)[0]; assert e.low < .5 < e.high and "one training" in e.note
    e = I.combine([[.4], [.5], [.6]])[0]; assert abs(e.value-.5) < 1e-9 and abs((e.high-e.low)/2-4.303*.1/math.sqrt(3)) < 1e-3

# ---- the whole -------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def easy(): return identify((1, 2, 3), perturbed=(3,), n_factors=4, mixing="linear", seconds=2.5)

def test_linear_world(easy):
    assert easy.knee == 2 and easy.sure and easy.words == ("kept", "kept", "excluded", "excluded")
    f = easy.to_frame(); assert list(f.columns) == ["factor", "verdict", "r2", "low", "high", "reference"] and f.factor.tolist() == [1, 2, 3, 4] and (f.low <= f.r2).all() and (f.r2 <= f.high).all()
    assert [c["step"] for c in easy.curve] == sorted(c["step"] for c in easy.curve) and len(easy.curve) >= 3 and easy.curve[-1]["r2"][0] > easy.curve[0]["r2"][0]-.05

def test_face(easy):
    again = I.IdentifyResult.from_json(easy.to_json()); assert again.to_json() == easy.to_json() and again.words == easy.words
    for language in LANGUAGES: assert easy.summary(language) and "<table" in easy._repr_html_(language) and easy.plot(language=language) and easy.plot_curve(language=language)
    assert len(easy.verdicts()) == 4 and all(v.value == "pass" for v in easy.verdicts()) and "R²" in easy.name_of("factor_1")

def test_width_that_does_not_fit_is_said():
    with pytest.warns(UserWarning, match="wider"): r = identify((1, 2, 3), perturbed=(3,), n_factors=4, mixing="linear", code_dim=3, seconds=2.5)
    assert "identify_wide" in r.notes and r.words[2] == "leaked" and r.code_dim == 3
    with pytest.warns(UserWarning, match="narrower"): r = identify((1, 2, 3), perturbed=(3,), n_factors=4, mixing="linear", code_dim=1, seconds=2.5)
    assert r.words[:2] == ("not enough evidence",)*2

def test_screen_and_resume(tmp_path):
    r = screen((1, 2), n_factors=3, mixing="linear", seconds=0); assert r.how == "closed form" and r.words == ("kept", "kept", "excluded")
    args = dict(selected=(1,), n_factors=2, mixing="linear", seconds=1, resume=tmp_path/"run.npz"); a = identify(**args); assert (tmp_path/"run.0.npz").exists()
    assert a.r2[0].value == pytest.approx(identify(**args).r2[0].value, abs=1e-5)

@pytest.mark.parametrize("change, said", [(dict(selected=()), "at least one"), (dict(selected=(1, 12)), "≤ 10"), (dict(perturbed=(1, 2, 3)), "nothing would connect"), (dict(perturbed=(4,)), "leaves out"), (dict(code_dim=0), "code_dim"), (dict(code_dim=2.5), "code_dim"),
    (dict(seconds=0), "seconds"), (dict(seed=-1), "seed"), (dict(mixing="leeky"), "Did you mean"), (dict(n_seeds=0), "n_seeds"), (dict(n_factors=0), "n_factors")])
def test_bad_input(change, said):
    with pytest.raises(InputError, match=said): identify(**(dict(selected=(1, 2, 3)) | change))
