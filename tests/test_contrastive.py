"Contrastive training: numbering of sets, the law of pairs, losses against slow references, optimiser, memory, checkpoints and inputs that must be refused."
import itertools, math, subprocess, sys, warnings
import numpy as np
import pytest
from mmkit.checks import InputError, WeakInputWarning
from mmkit.misalignment import contrastive as C
from mmkit.misalignment.contrastive import Recipe, draw_pairs, info_nce, latent_model, subset_number, subset_of, train_encoders

torch = pytest.importorskip("torch")
SMALL = Recipe(hidden=(16,), batch=64, check=10)

def data(n=300, seed=0):
    "Two modalities with two causes in common."
    r = np.random.default_rng(seed); s = r.normal(size=(n, 2)); side = lambda: np.c_[s, r.normal(size=(n, 2))] @ r.normal(size=(4, 5))
    return side(), side()

def test_importing_stays_light():
    code = "import sys, mmkit.misalignment.contrastive, mmkit.misalignment.identify; print([m for m in ('torch', 'matplotlib', 'sklearn', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"

# ---- sets of factors -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [1, 3, 6])
def test_numbers_are_the_graded_dictionary_order(n):
    slow = [c for k in range(1, n+1) for c in itertools.combinations(range(1, n+1), k)]
    assert [subset_of(i+1, n) for i in range(len(slow))] == slow and [subset_number(c, n, first=0) for c in slow] == list(range(len(slow)))

@pytest.mark.parametrize("bad", [0, 1024, 1.5, None])
def test_numbers_outside_the_list_are_refused(bad):
    with pytest.raises(InputError): subset_of(bad)

@pytest.mark.parametrize("told, wrong", [((), ()), ((0,), ()), ((11,), ()), ((1, 1), ()), ((1, 2), (3,)), ((1,), (1,)), (("a",), ()), (None, ()), ((1, 2), (1.5,)), ("12", ())])
def test_impossible_sets_are_refused(told, wrong):
    with pytest.raises(InputError): latent_model(told, wrong)

# ---- the law of pairs ------------------------------------------------------------------------------------------------

def test_law_of_pairs():
    m = latent_model((1, 2, 4), perturbed=(2,), dependent=True, n_factors=4, n_private=2, seed=3); p = draw_pairs(m, 40_000)
    assert np.allclose(np.cov(p.s.T), m.cov_s, atol=.05*np.abs(m.cov_s).max()) and m.kept == (1, 4)
    assert (p.told[:, [0, 2]] == p.s[:, [0, 3]]).all()                                # exact copies
    changed = p.told[:, 1] != p.s[:, 1]; assert abs(changed.mean()-.75) < .01
    assert abs((p.told[:, 1]-p.s[:, 1])[changed].var()/m.cov_noise[1, 1]-1) < .05
    assert abs(np.corrcoef(p.s[changed, 3], (p.told-p.s[:, [0, 1, 3]])[changed, 1])[0, 1]) < .02  # a perturbation does not reach other factors

@pytest.mark.parametrize("mixing", C.MIXINGS)
def test_mixing_can_be_undone(mixing):
    m = latent_model((1, 2), n_factors=2, n_private=1, mixing=mixing); p = draw_pairs(m, 50); z, x = np.c_[p.s, p.m_a], p.x_a.copy()
    if mixing != "identity":
        for i, w in list(enumerate(m.mix_a))[::-1]:
            x = x @ np.linalg.inv(w)
            if i and mixing == "leaky": x = np.where(x > 0, x, x/.2)
            if i and mixing == "smooth":
                from scipy.optimize import brentq
                x = np.vectorize(lambda v: brentq(lambda h: .2*h+.8*np.logaddexp(0, h)-v, -1000, 1000))(x)
    assert np.allclose(x, z, atol=1e-6)

# ---- losses ----------------------------------------------------------------------------------------------------------

def slow_info_nce(u, v, negatives, similarity, tau):
    "The definition, one record at a time."
    k = (lambda a, b: -((a-b)**2).sum()/tau) if similarity == "distance" else (lambda a, b: a @ b/np.linalg.norm(a)/np.linalg.norm(b)/tau)
    total = 0
    for a, b in ((u, v), (v, u)):
        for i in range(len(a)):
            strangers = ([k(a[i], b[j]) for j in range(len(a)) if j != i] if negatives != "within" else [])+([k(a[i], a[j]) for j in range(len(a)) if j != i] if negatives != "cross" else [])
            p = k(a[i], b[i]); total += np.logaddexp.reduce([p, *strangers])-p
    return total/2/len(u)

@pytest.mark.parametrize("negatives", C.NEGATIVES)
@pytest.mark.parametrize("similarity, tau", [("distance", 1.), ("distance", .3), ("cosine", .1)])
def test_info_nce_is_its_definition(negatives, similarity, tau):
    r = np.random.default_rng(0); u, v = r.normal(size=(2, 7, 3)); t = lambda x: torch.as_tensor(x)
    assert abs(float(info_nce(t(u), t(v), negatives, None, similarity, tau))-slow_info_nce(u, v, negatives, similarity, tau)) < 1e-6

@pytest.mark.parametrize("negatives", C.NEGATIVES)
def test_gradient_and_weights(negatives):
    u, v = (torch.randn(6, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)); w = torch.tensor([1., 2, 0, 1, 1, 1], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, negatives, w), (u, v))
    assert torch.allclose(info_nce(u, v, negatives, 5*w), info_nce(u, v, negatives, w))

def test_far_codes_do_not_break_the_loss():
    u = (1e4*torch.randn(20, 3)).requires_grad_(); v = torch.randn(20, 3)
    for n in C.NEGATIVES: loss = info_nce(u, v, n); loss.backward(); assert torch.isfinite(loss) and torch.isfinite(u.grad).all()

def test_soft_cca_is_the_mean_squared_canonical_correlation():
    x, y = data(2000); span = lambda v: (lambda u, s: u[:, s > 1e-9*s[0]])(*np.linalg.svd(v-v.mean(0), full_matrices=False)[:2])  # 5 columns of rank 4: the rest is rounding
    rho = np.linalg.svd(span(x).T @ span(y), compute_uv=False)
    assert abs(float(C.soft_cca(torch.as_tensor(x), torch.as_tensor(y)))+(rho**2).sum()/5) < .01

def test_muon_matches_torch():
    w = torch.randn(20, 12); p, q = w.clone().requires_grad_(), w.clone().requires_grad_(); state = [(torch.zeros_like(w), torch.zeros_like(w))]
    theirs = torch.optim.Muon([q], lr=.02, weight_decay=0., momentum=.95)
    for step in range(4):
        for t in (p, q): t.grad = (t.detach()-torch.ones_like(t))*1.
        theirs.step()
        with torch.no_grad(): C._move(torch, [p], state, step, 1., Recipe(clip=1e9, momentum=.95))
    assert torch.allclose(p, q, atol=.02)  # theirs computes in half precision

# ---- training --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("objective", (*C.OBJECTIVES, "soft_cca"))
def test_every_objective_finds_what_is_shared(objective):
    (x, y), (x2, y2) = data(1500), data(1500); t = train_encoders(x, y, 3, objective, steps=150, recipe=SMALL); a, b = t.encode_a(x2), t.encode_b(y2)  # three columns: cosines live on a sphere
    a, b = ((c-c.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(c.T)).T) for c in (a, b))
    assert np.linalg.svd(a.T @ b/len(a))[1][1] > .7

def test_weights_of_zero_leave_pairs_out():
    x, y = data(400); wrong = np.arange(400) >= 200; y[wrong] = y[wrong][::-1]
    loss = lambda w: train_encoders(x, y, 2, weights=w, steps=150, recipe=SMALL, seed=1); clean = loss((~wrong).astype(float)); a, b = clean.encode_a(x[~wrong]), clean.encode_b(y[~wrong])
    every = loss(None); c, d = every.encode_a(x[~wrong]), every.encode_b(y[~wrong])
    at = lambda u, v: np.mean([np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(2)]); assert at(a, b) > at(c, d)

def test_early_stop_progress_and_time():
    x, y = data(); seen = []
    t = train_encoders(x, y, 2, steps=2000, recipe=Recipe(hidden=(8,), batch=64, check=5, patience=3), progress=lambda d, n, w: seen.append(d/n)); assert t.steps < 2000 and seen == sorted(seen) and seen[-1] <= 1
    short = train_encoders(x, y, 2, steps=10**6, seconds=.2, recipe=SMALL); assert short.steps < 10**5 and short.history[-1]["seconds"] < 2

def test_batches_are_reduced_when_memory_runs_out(monkeypatch):
    x, y = data(); real = C.Training.loss
    def greedy(self, rows):
        if len(rows) > 20: raise MemoryError
        return real(self, rows)
    monkeypatch.setattr(C.Training, "loss", greedy)
    with pytest.warns(WeakInputWarning, match="reduced"): t = train_encoders(x, y, 2, steps=3, recipe=Recipe(hidden=(8,), batch=64, held_out=0.))
    assert t.notes and "16" in t.notes[-1]
    monkeypatch.setattr(C, "free_memory", lambda: 64*100**2.)
    with pytest.warns(WeakInputWarning, match="does not fit"): assert C.batch_that_fits(10**6, "infonce") == 100
    assert C.batch_that_fits(10**6, "soft_cca") == 10**6

def test_checkpoint_after_a_kill(tmp_path):
    x, y = data(); file = tmp_path/"run.npz"; go = lambda **k: train_encoders(x, y, 2, steps=60, recipe=SMALL, **k)
    def stop(t):
        if t.step == 30: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): go(resume=file, watch=stop)
    assert np.allclose(go(resume=file).encode_a(x), go().encode_a(x), atol=1e-4) and go(resume=file).steps == 60  # finished: nothing is trained again
    with pytest.raises(InputError, match="other pairs"): train_encoders(y, x, 2, steps=60, recipe=SMALL, resume=file)
    np.savez(file, header=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="damaged"): go(resume=file)
    with pytest.raises(InputError, match="folder that exists"): go(resume=tmp_path/"nowhere"/"run.npz")

@pytest.mark.parametrize("change, said", [(dict(x_a=np.ones((300, 3))), "constant"), (dict(x_a=np.zeros((299, 3))), "pair them"), (dict(code_dim=301), "only 300 pairs"), (dict(code_dim=0), "code_dim"),
    (dict(objective="infonse"), "Did you mean"), (dict(negatives="all"), "negatives"), (dict(weights=np.ones(3)), "records"), (dict(weights=-np.ones(300)), "negative"), (dict(weights=np.zeros(300)), "all 0"),
    (dict(temperature=0), "temperature"), (dict(steps=0), "steps"), (dict(x_a=np.full((300, 2), np.nan)), "NaN"), (dict(recipe=Recipe(optimiser="sgd")), "optimiser")])
def test_bad_input(change, said):
    x, y = data(); args = dict(x_a=x, x_b=y, code_dim=2) | change
    with pytest.raises(InputError, match=said): train_encoders(**args)

def test_few_pairs_identical_pairs_and_wrong_columns():
    with pytest.raises(InputError, match="at least 8"): train_encoders(np.eye(5), np.eye(5), 2)
    x, y = data(); t = train_encoders(x, y, 2, steps=5, recipe=SMALL)
    with pytest.raises(InputError, match="4 columns"): t.encode_a(x[:, :4])
    with pytest.warns(WeakInputWarning, match="in effect"): train_encoders(x, y, 2, steps=2, recipe=SMALL, weights=np.r_[1., np.full(299, 1e-9)])

def test_same_seed_same_encoders():
    x, y = data(); a, b, c = (train_encoders(x, y, 2, steps=30, recipe=SMALL, seed=s).encode_a(x) for s in (0, 0, 1)); assert np.allclose(a, b, atol=1e-4) and not np.allclose(a, c, atol=.01)
