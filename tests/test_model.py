"What a cell of the model notebook cannot show: memory, hostile graphs, invariances."
import warnings
import numpy as np, pytest
torch = pytest.importorskip("torch")
from mmkit.checks import InputError, WeakInputWarning
from mmkit.entities.graphs import MultimodalGraph, emoji_graphs
from mmkit.entities.model import Model, ModelSettings, attend, discriminant, edges_of, information_bound, listwise_weights, model_inputs, pattern_of
from conftest import ROOT, run

MEMORY = """
import resource, numpy as np, torch
from mmkit.entities.model import attend, edges_of, pattern_of
torch.set_num_threads(1); rng = np.random.default_rng(0); n, d = 20_000, 64
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/2**10
for m in (1_000, 100_000, 400_000):
    edges = edges_of(rng.integers(0, n, (m, 2)), n); h = torch.randn(n, d, requires_grad=True)
    attend(h, torch.ones(2, d, requires_grad=True), torch.randn(2, 2, d), pattern_of(edges)).pow(2).sum().backward(); print(len(edges.other), peak())
"""

def test_memory_of_attention_grows_with_edges_only():
    few, some, many = ([float(v) for v in line.split()] for line in run("-c", MEMORY, cwd=ROOT).stdout.split("\n")[:3])
    each = (many[1]-few[1])*2**20/(many[0]-few[0])
    assert each < 64*4*2, f"{each:.0f} bytes for each edge; vectors of {64*4} bytes must not be copied along both ends"
    assert many[1]-few[1] < 20_000**2*4/2**20/4  # a table of entities × entities would be 1.5 GB

def test_attention_does_not_depend_on_the_order_of_entities():
    rng = np.random.default_rng(1); pairs, to = rng.integers(0, 30, (80, 2)), rng.permutation(30)
    h, w, a = (torch.from_numpy(rng.normal(size=s)).float() for s in ((30, 7), (2, 7), (2, 2, 7)))
    moved = torch.empty_like(h); moved[to] = h
    assert torch.allclose(attend(h, w, a, pattern_of(edges_of(pairs, 30))), attend(moved, w, a, pattern_of(edges_of(to[pairs], 30)))[to], atol=1e-5)

def test_an_entity_without_neighbours_attends_to_itself():
    h = torch.randn(4, 3); out = attend(h, torch.ones(2, 3), torch.randn(2, 2, 3), pattern_of(edges_of([(0, 1)], 4)))
    assert torch.allclose(out[2:], h[2:]) and torch.isfinite(out).all()

def graph(side, **kw):
    n = 12; ids = [f"{side}{i}" for i in range(n)]
    return MultimodalGraph(ids, **{"names": [f"name {i}" for i in range(n)], "triples": [(ids[i], "next", ids[(i+1) % n]) for i in range(n)]} | kw)

def test_images_missing_on_one_side_are_left_out():
    pictures = [np.full((8, 8, 3), i, np.uint8) for i in range(12)]
    with pytest.warns(WeakInputWarning, match="second graph has no `image`"): inputs = model_inputs(graph("a", images=pictures), graph("b"))
    assert inputs.names == ("structure", "relation", "name")

def test_cyclic_and_self_triples():
    loops = [("a0", "is", "a0"), ("a1", "is", "a2"), ("a2", "is", "a1"), ("a1", "is", "a2")]
    inputs = model_inputs(graph("a", triples=loops), graph("b"), anchors=np.array([(i, i) for i in range(11)])); model = Model(inputs, ModelSettings(view_width=10, structure_width=6))
    views, joint, weights = model.embed(); assert all(torch.isfinite(v).all() for v in (*views.values(), joint, weights))
    assert not views["structure"][0].any() and weights[0, 0] == 0   # only itself is no neighbour

def test_no_triples_at_all():
    with pytest.warns(WeakInputWarning): assert model_inputs(graph("a", triples=None), graph("b")).names == ("name",)
    assert model_inputs(graph("a", triples=None), graph("b", triples=None)).names == ("name",)

def test_an_entity_without_anything_is_zero_and_finite():
    a, b = graph("a", names=[None]+["x y"]*11, triples=None), graph("b", triples=None); model = Model(model_inputs(a, b, anchors=np.array([(i, i) for i in range(1, 12)])), ModelSettings())
    joint = model.embed()[1]; assert torch.isfinite(joint).all() and not joint[0].any()

def test_features_of_two_encoders_are_refused():
    with pytest.raises(InputError, match="same encoder"): model_inputs(graph("a", features={"v": np.ones((12, 3))}), graph("b", features={"v": np.ones((12, 4))}))
    with pytest.raises(InputError, match="another name"): model_inputs(graph("a", features={"structure": np.ones((12, 3))}), graph("b"))

def test_given_image_vectors_take_the_place_of_pixels():
    v = np.random.default_rng(0).normal(size=(2, 12, 5)).astype(np.float32); v[0, 3] = np.nan
    inputs = model_inputs(graph("a", features={"image": v[0]}), graph("b", features={"image": v[1]}))
    assert inputs.x["image"].shape == (24, 5) and not inputs.x["image"][3].any() and not inputs.there["image"][3]

def test_a_constant_modality_is_survived():
    d, offset = discriminant(np.ones((20, 4)), np.array([(i, 10+i) for i in range(10)]), 3); assert np.isfinite(d).all() and np.isfinite(offset).all()
    assert np.isfinite(listwise_weights(np.stack([np.eye(8), np.zeros((8, 8))]))).all()

def test_inputs_are_the_same_twice():
    pair = emoji_graphs(rows=80, seed=3); x, y = (model_inputs(pair.graph_a, pair.graph_b, anchors=pair.links[:20], seed=4) for _ in range(2))
    assert all(np.array_equal(x.x[k], y.x[k]) for k in x.x)

@pytest.mark.parametrize("scores", [torch.randn(9, 9), torch.zeros(9, 9), 30*torch.randn(9, 9)])
def test_the_released_information_is_never_positive(scores):
    assert information_bound(scores, "released") <= 1e-5 and information_bound(scores, "infonce") <= np.log(9)+1e-5
