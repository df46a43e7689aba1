import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.fixtures.backbones import save_tiny_backbone
from tsllm.backbones.pretrained import compute_fingerprint
from tsllm.models.timellm.backbone import load_backbone
from tsllm.models.timellm.prompt import Prompt

RAGGED = Prompt((5, 6, 7, 8), ((9, 10, 11), (12,), (13, 14, 15, 16, 17, 18)), (0, 1, 2, 1))


def slow_loop(backbone, patches, prompt):
    """Reads one row at a time, unpadded, as one plain sequence."""
    rows = prompt.rows or (0,) * len(patches)
    result = []
    for row, tail in enumerate(rows):
        ids = torch.tensor(prompt.prefix + prompt.tails[tail], dtype=torch.long)
        sequence = torch.cat([backbone.llm.get_input_embeddings()(ids), patches[row]])[None]
        result.append(backbone.llm(inputs_embeds=sequence).last_hidden_state[0, len(ids) :])
    return torch.stack(result)


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        Prompt((5, 6, 7)),
        RAGGED,
        Prompt((), ((3, 4), (5,)), (1, 0, 0, 1)),
        Prompt((5,), ((6, 7), (8, 9)), (0, 1, 1, 0)),
        Prompt((5,), ((6, 7), (8,), (9, 10), (11, 12, 13)), (0, 1, 2, 3)),
    ],
    ids=["none", "prefix", "ragged", "tails", "equal", "distinct"],
)
def test_cached_equals_uncached_equals_one_row_at_a_time(prompt, backbone):
    reader = load_backbone(backbone, num_layers=3)
    patches = torch.randn(4, 6, 32)
    with torch.no_grad():
        expected = slow_loop(reader, patches, prompt or Prompt(()))
        cached = reader(patches, prompt)
        again = reader(patches, prompt)
        reader.inline = True
        inline = reader(patches, prompt)
    torch.testing.assert_close(cached, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(inline, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(cached, again)


def test_cached_gradients_equal_uncached_gradients(backbone):
    reader = load_backbone(backbone, num_layers=2)
    gradients = []
    weight = torch.randn(4, 6, 32)
    for inline in (False, True):
        reader.inline = inline
        patches = torch.randn(4, 6, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
        (reader(patches, RAGGED) * weight).sum().backward()
        gradients.append(patches.grad)
    assert gradients[0].abs().max() > 1e-2
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


def test_the_prefix_runs_once_and_the_last_layer_does_no_idle_work(backbone):
    reader = load_backbone(backbone, num_layers=3)
    layers = reader.llm.h if hasattr(reader.llm, "h") else reader.llm.layers
    tokens = [[] for _ in layers]
    for k, layer in enumerate(layers):
        layer.mlp.register_forward_hook(lambda m, i, o, k=k: tokens[k].append(i[0].shape[0] * i[0].shape[1]))
    patches = torch.randn(4, 6, 32)
    reader(patches, RAGGED)
    assert [t[0] for t in tokens[:2]] == [4, 4]  # the prefix, one row
    assert tokens[0] == [4, 3 * 6, 4 * 6]  # then three distinct tails of at most six tokens, then the patches
    assert tokens[2] == [4 * 6]
    reader(patches, RAGGED)
    assert tokens[0][3:] == [3 * 6, 4 * 6]


def test_only_the_first_layers_are_kept(gpt2):
    whole, part = load_backbone(gpt2), load_backbone(gpt2, num_layers=2)
    assert (whole.num_layers, part.num_layers) == (3, 2)
    assert torch.equal(part.llm.h[1].mlp.c_fc.weight, whole.llm.h[1].mlp.c_fc.weight)
    with pytest.raises(ValueError, match=r"num_backbone_layers is 5, but backbone .* has 3"):
        load_backbone(gpt2, num_layers=5)


def test_random_weights_have_the_architecture_but_not_the_weights(gpt2):
    trained, first = load_backbone(gpt2), load_backbone(gpt2, weights="random", seed=1)
    again, other = load_backbone(gpt2, weights="random", seed=1), load_backbone(gpt2, weights="random", seed=2)
    assert first.hidden_size == trained.hidden_size
    prints = [compute_fingerprint(b.llm) for b in (trained, first, again, other)]
    assert prints[1] == prints[2]
    assert len(set(prints)) == 3


def test_random_weights_leave_the_global_generator_alone(gpt2):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_backbone(gpt2, weights="random", seed=1)
    assert torch.equal(torch.rand(1), expected)


def test_the_fingerprint_tells_weights_apart_and_not_dtypes(gpt2, tmp_path):
    backbone = load_backbone(gpt2)
    print_ = compute_fingerprint(backbone.llm)
    assert print_ == compute_fingerprint(load_backbone(gpt2, dtype=torch.bfloat16).llm)
    with torch.no_grad():
        backbone.llm.h[0].mlp.c_fc.weight.mul_(1.1)
    assert compute_fingerprint(backbone.llm) != print_


def test_a_backbone_that_is_not_there_is_an_error_with_the_way_out(tmp_path):
    with pytest.raises(OSError, match=r"backbone .*nowhere.* cannot be loaded.*backbone: smollm2-135m") as error:
        load_backbone(str(tmp_path / "nowhere"))
    (line,) = str(error.value).splitlines()
    assert line.endswith("(`backbone: smollm2-135m` in YAML, --set backbone=smollm2-135m on the command line)")
    assert ".; " not in line


def test_missing_weights_are_an_error_and_never_drawn_at_random(tmp_path):
    folder = Path(save_tiny_backbone(tmp_path / "damaged", "gpt2"))
    state = load_file(folder / "model.safetensors")
    del state["transformer.h.1.mlp.c_fc.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing or of another shape: h\.1\.mlp\.c_fc\.weight"):
        load_backbone(str(folder))


def test_weights_of_another_shape_are_an_error(tmp_path):
    folder = Path(save_tiny_backbone(tmp_path / "wide", "gpt2"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_embd": 64}))
    with pytest.raises((ValueError, RuntimeError), match=r"another shape|size mismatch|ignore_mismatched_sizes"):
        load_backbone(str(folder))


def test_pickled_weights_are_refused(tmp_path):
    folder = Path(save_tiny_backbone(tmp_path / "pickled", "gpt2"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match="cannot be loaded"):
        load_backbone(str(folder))


def test_an_encoder_reads_prompt_and_patches_both_ways(tmp_path):
    reader = load_backbone(save_tiny_backbone(tmp_path / "bert", "bert"), num_layers=2)
    patches = torch.randn(4, 6, 32)
    with torch.no_grad():
        torch.testing.assert_close(reader(patches, RAGGED), slow_loop(reader, patches, RAGGED), atol=1e-5, rtol=1e-5)


def tails_run(reader):
    """Records the number of rows of each run that collects keys and values."""
    rows = []
    collect = reader._collect
    reader._collect = lambda ids, *rest: rows.append(ids.shape[0]) or collect(ids, *rest)
    return rows


def test_tails_seen_before_are_not_run_again_and_give_the_same(backbone):
    reader = load_backbone(backbone, num_layers=2)
    patches = torch.randn(4, 6, 32)
    with torch.no_grad():
        expected = reader(patches, RAGGED)
        reader.tails.capacity = 1e9
        rows = tails_run(reader)
        first, second = reader(patches, RAGGED), reader(patches, RAGGED)
        mixed = Prompt(RAGGED.prefix, (RAGGED.tails[2], (40, 41), RAGGED.tails[0]), (0, 1, 2, 2))
        third = reader(patches, mixed)
        assert rows == [3, 1]
        reader.tails.capacity = 0
        torch.testing.assert_close(third, reader(patches, mixed), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(first, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(second, expected, atol=1e-5, rtol=1e-5)


def test_alone_every_tail_is_run_by_itself_and_what_was_computed_together_is_not_used(backbone):
    reader = load_backbone(backbone, num_layers=2)
    reader.tails.capacity = 1e9
    patches = torch.randn(4, 6, 32)
    rows = tails_run(reader)
    with torch.no_grad():
        together = reader(patches, RAGGED)
        reader.alone = True
        alone, again = reader(patches, RAGGED), reader(patches, RAGGED)
        assert rows == [1, 3, 1, 1, 1]  # prefix, all tails together, then each, then none
        assert torch.equal(alone, again)
        reader.tails.clear()
        reader(patches[:1], Prompt(RAGGED.prefix, (RAGGED.tails[2],), (0,)))
        assert torch.equal(reader(patches, RAGGED), alone)  # whatever else is stored
        reader.alone = False
        reader(patches, RAGGED)
        assert rows[5:] == [1, 1, 1, 3]
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


def test_an_empty_tail_beside_others_is_read_alone_too(gpt2):
    reader = load_backbone(gpt2, num_layers=2)
    patches = torch.randn(2, 6, 32)
    prompt = Prompt((5, 6), ((), (9, 10)), (0, 1))
    with torch.no_grad():
        reader.alone = True
        torch.testing.assert_close(reader(patches, prompt), slow_loop(reader, patches, prompt), atol=1e-5, rtol=1e-5)


def test_tails_behind_another_prefix_are_run_again(gpt2):
    reader = load_backbone(gpt2, num_layers=2)
    reader.tails.capacity = 1e9
    patches = torch.randn(4, 6, 32)
    other = Prompt((30, 31), RAGGED.tails, RAGGED.rows)
    with torch.no_grad():
        reader(patches, RAGGED)
        torch.testing.assert_close(reader(patches, other), slow_loop(reader, patches, other), atol=1e-5, rtol=1e-5)


def test_the_store_of_tails_stays_within_its_bytes(gpt2):
    reader = load_backbone(gpt2, num_layers=2)
    token = 2 * 2 * 32 * 4  # keys and values, two layers, 32 numbers of four bytes
    reader.tails.capacity = 10 * token
    patches = torch.randn(1, 6, 32)
    with torch.no_grad():
        for k in range(20):
            reader(patches, Prompt((5,), ((k, k + 1, k + 2),), (0,)))
            assert reader.tails.num_bytes <= 10 * token
    assert len(reader.tails) == 3
    assert reader.tails.num_bytes == 9 * token


def test_moving_the_backbone_drops_what_was_cached(gpt2):
    reader = load_backbone(gpt2, num_layers=2)
    reader.tails.capacity = 1e9
    patches = torch.randn(4, 6, 32)
    with torch.no_grad():
        before = reader(patches, RAGGED)
        reader.double()
        after = reader(patches.double(), RAGGED)
    assert after.dtype == torch.float64
    torch.testing.assert_close(after.float(), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("trained", [False, True])
def test_recomputed_layers_give_the_same_gradients_and_keep_less(trained, backbone):
    gradients, kept = [], []
    for recompute in (False, True):
        reader = load_backbone(backbone, num_layers=3)
        if trained:
            reader.llm.requires_grad_(True)
        if recompute:
            reader.checkpoint_layers()
        patches = torch.randn(4, 6, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            loss = reader(patches, RAGGED).square().sum()
        wanted = [patches, *[p for p in reader.llm.parameters() if p.requires_grad]]
        gradients.append(torch.autograd.grad(loss, wanted, allow_unused=True))
        kept.append(sum(sizes))
    for plain, recomputed in zip(*gradients, strict=True):
        if plain is not None:
            torch.testing.assert_close(recomputed, plain, atol=1e-5, rtol=1e-4)
    assert kept[1] < 0.8 * kept[0]


def test_rotated_weights_keep_their_singular_values_and_forget_the_rest(gpt2):
    trained, rotated = load_backbone(gpt2), load_backbone(gpt2, weights="spectrum", seed=1)
    for name in ("h.0.attn.c_attn.weight", "h.2.mlp.c_proj.weight", "wte.weight"):
        before, after = trained.llm.get_parameter(name), rotated.llm.get_parameter(name)
        torch.testing.assert_close(torch.linalg.svdvals(after), torch.linalg.svdvals(before), atol=1e-4, rtol=1e-4)
        assert torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0).abs() < 0.2
