"""Every family of backbones, against the classes of transformers asked directly; no weights are fetched."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from compnet3d.errors import CompNetError
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor, build_extractor
from compnet3d.models.families import FAMILIES
from compnet3d.models.pretrained import load_extractor

STAGES: dict[str, Any] = {"depths": [1, 1, 2, 1]}
CONV = STAGES | {"hidden_sizes": [8, 16, 24, 32]}
SWIN = STAGES | {"embed_dim": 8, "num_heads": [1, 2, 2, 4], "window_size": 4, "image_size": 64}
TOKENS: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64}
WIDE = TOKENS | {"intermediate_size": 48}

# of each family: the class of the network whose weights are published, its configuration, and its small one
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("ResNetForImageClassification", CONV | {"embedding_size": 8, "layer_type": "basic"}),
    "convnext": ("ConvNextForImageClassification", CONV),
    "convnextv2": ("ConvNextV2ForImageClassification", CONV),
    "swin": ("SwinForImageClassification", SWIN),
    "swinv2": ("Swinv2ForImageClassification", SWIN),
    "hiera": (
        "HieraForImageClassification",
        STAGES | {"embed_dim": 8, "num_heads": [1, 2, 2, 4], "image_size": [64, 64]},
    ),
    "pvt_v2": ("PvtV2ForImageClassification", CONV | {"num_attention_heads": [1, 2, 3, 4]}),
    "dinov3_convnext": ("DINOv3ConvNextModel", CONV),
    "vit": ("ViTForImageClassification", WIDE),
    "dinov2": ("Dinov2Model", TOKENS | {"patch_size": 14, "image_size": 56}),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", TOKENS | {"patch_size": 14, "image_size": 56}),
    "dinov3_vit": ("DINOv3ViTModel", WIDE | {"num_register_tokens": 4}),
    "siglip_vision_model": ("SiglipVisionModel", WIDE),
    "clip_vision_model": ("CLIPVisionModel", WIDE | {"patch_size": 16}),
}
PREFIX = {"vit": 1, "dinov2": 1, "dinov2_with_registers": 5, "dinov3_vit": 5, "siglip_vision_model": 0,
          "clip_vision_model": 1}  # fmt: skip
PYRAMIDS = [name for name in PUBLISHED if name not in PREFIX]
# rows and columns of what is not square, in pixels; a Hiera's are multiples of 32
HEIGHT, WIDTH = 64, 96


def original(family: str) -> Any:
    """A random network of the published class, whose every number matters: none is left at 0 or 1."""
    torch.manual_seed(0)
    name, values = PUBLISHED[family]
    kind = getattr(transformers, name)
    network = kind(kind.config_class(**values))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for buffer_name, buffer in network.named_buffers():
            if buffer_name.endswith("running_var"):
                buffer.uniform_(0.5, 2)
    return network.eval()


def saved(family: str, folder: Path) -> Any:
    network = original(family)
    network.save_pretrained(folder)
    return network


def exact(extractor: FeatureExtractor) -> FeatureExtractor:
    extractor.amp = False
    return extractor.eval()


def inner(network: Any) -> Any:
    """A classifier's network."""
    prefix = getattr(network, "base_model_prefix", "")
    return getattr(network, prefix) if "ForImage" in type(network).__name__ else network


def plain_grid(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Tokens [n, C] in reading order as a map [C, rows, columns], one by one."""
    found = torch.empty(tokens.shape[1], rows, columns)
    for row in range(rows):
        for column in range(columns):
            found[:, row, column] = tokens[row * columns + column]
    return found


@pytest.mark.parametrize("family", PREFIX)
def test_patch_tokens_are_those_of_the_original(family: str, tmp_path: Path) -> None:
    network = inner(saved(family, tmp_path))
    extractor = exact(load_extractor(tmp_path, dimension=12))
    patch = network.config.patch_size
    assert extractor.stride == patch
    rows, columns = 4, 7
    image = torch.rand(1, 3, rows * patch, columns * patch)
    normalised = (image - extractor.mean) / extractor.std
    options = {} if family.startswith("dino") else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        tokens = network(normalised, **options).last_hidden_state[0]
        assert len(tokens) == PREFIX[family] + rows * columns
        grid = plain_grid(tokens[PREFIX[family] :], rows, columns)
        weight, bias = extractor.projection.weight, extractor.projection.bias
        expected = torch.einsum("dc,chw->dhw", weight, grid) + bias[:, None, None]
        assert torch.allclose(extractor.features(normalised)[0], expected, atol=1e-5)
    assert extractor(image).shape == (1, 12, rows, columns)


def stage_maps(family: str, network: Any, images: Tensor) -> list[Tensor]:
    """The maps of stages 2 to 4, asked for in the way of each class."""
    encoder, maps = network, []
    if family == "resnet":
        return list(network(images, output_hidden_states=True).hidden_states[2:])
    if family in ("convnext", "convnextv2", "dinov3_convnext"):
        hooked = network.model.stages if family == "dinov3_convnext" else network.encoder.stages
        handles = [stage.register_forward_hook(lambda *call: maps.append(call[2])) for stage in hooked]
        encoder(images)
        for handle in handles:
            handle.remove()
        return maps[1:]
    if family == "pvt_v2":
        return list(network(images, output_hidden_states=True).hidden_states[1:])
    if family == "hiera":
        found = network(images, output_hidden_states=True, interpolate_pos_encoding=True).reshaped_hidden_states
        return [state.permute(0, 3, 1, 2) for state in found[2:]]
    # what the last block of each stage gives, before it is made smaller
    handles = [
        stage.blocks[-1].register_forward_hook(
            lambda *call: maps.append(call[2][0] if isinstance(call[2], tuple) else call[2])
        )
        for stage in network.encoder.layers
    ]
    network(images, **({"always_partition": True} if family == "swin" else {}))
    for handle in handles:
        handle.remove()
    found = []
    for number, tokens in enumerate(maps[1:], 1):
        side = images.shape[2] // (4 * 2**number), images.shape[3] // (4 * 2**number)
        found.append(torch.stack([plain_grid(one, *side) for one in tokens]))
    return found


@pytest.mark.parametrize("family", PYRAMIDS)
@pytest.mark.parametrize("stages", [1, 3])
def test_stages_are_those_of_the_original(family: str, stages: int, tmp_path: Path) -> None:
    network = inner(saved(family, tmp_path))
    extractor = exact(load_extractor(tmp_path, dimension=12, stages=stages))
    assert extractor.stride == 8
    width = 64 if family == "hiera" else WIDTH  # the original knows one size alone
    image = torch.rand(2, 3, HEIGHT, width)
    with torch.no_grad():
        expected = stage_maps(family, network, image)
        got = FAMILIES[family].read(extractor.backbone, image)
    assert len(got) == stages
    for number in range(stages):
        assert expected[number].shape[2:] == (HEIGHT // (8 * 2**number), width // (8 * 2**number))
        assert got[number].std() > 0
        assert torch.allclose(got[number], expected[number], atol=1e-5)
    assert extractor(image).shape == (2, 12, HEIGHT // 8, width // 8)


def test_a_hiera_of_another_size_sees_what_one_of_that_size_would(tmp_path: Path) -> None:
    """Of a constant position embedding, which interpolation leaves as it is, and with attention within units alone."""
    network = original("hiera")
    with torch.no_grad():
        embedding = inner(network).embeddings.position_embeddings
        embedding.copy_(torch.ones_like(embedding))
    network.config.masked_unit_attention = [True] * 4
    network = transformers.HieraForImageClassification(network.config).eval()
    with torch.no_grad():
        inner(network).embeddings.position_embeddings.fill_(1.0)
    network.save_pretrained(tmp_path)
    extractor = exact(load_extractor(tmp_path, dimension=12))
    left, right = torch.rand(2, 1, 3, 64, 64).unbind(0)
    with torch.no_grad():
        whole = FAMILIES["hiera"].read(extractor.backbone, torch.cat([left, right], dim=3))
        halves = [FAMILIES["hiera"].read(extractor.backbone, half) for half in (left, right)]
    for seen, first, second in zip(whole, *halves, strict=True):
        cells = first.shape[3]
        # the convolution of the patches looks over the border between the halves; far from it nothing changes
        assert seen.shape == (1, first.shape[1], cells, 2 * cells)
        assert torch.allclose(seen[..., : cells // 2], first[..., : cells // 2], atol=1e-5)
        assert torch.allclose(seen[..., -(cells // 2) :], second[..., -(cells // 2) :], atol=1e-5)


@pytest.mark.parametrize("family", PUBLISHED)
def test_what_is_not_said_is_what_transformers_takes(family: str) -> None:
    """A file on the hub may leave out what is the default."""
    kind = FAMILIES[family].classes[1]
    usual = kind().to_dict()
    for entry in fields(FAMILIES[family].architecture):
        value = usual.get(entry.name)
        # of rows and columns, where both are the same
        pair = isinstance(value, list | tuple) and isinstance(entry.default, int)
        expected = value[0] if pair else tuple(value) if isinstance(value, list | tuple) else value
        # that of the pooling layer, which is left out
        unused = entry.name == "pooler_output_size"
        assert unused or entry.default is MISSING or entry.default == expected, entry.name


@pytest.mark.parametrize("family", PUBLISHED)
def test_a_loaded_network_is_rebuilt_from_its_configuration_alone(family: str, tmp_path: Path) -> None:
    saved(family, tmp_path)
    extractor = exact(load_extractor(tmp_path, dimension=12))
    again = exact(build_extractor(BackboneConfig.from_dict(json.loads(json.dumps(extractor.config.to_dict())))))
    again.load_state_dict(extractor.state_dict())
    image = torch.rand(1, 3, 4 * extractor.sizes[0], 4 * extractor.sizes[0])
    assert torch.equal(again(image), extractor(image))


@pytest.mark.parametrize("family", PUBLISHED)
def test_half_precision_gives_about_the_same(family: str, tmp_path: Path) -> None:
    saved(family, tmp_path)
    extractor = exact(load_extractor(tmp_path, dimension=12))
    image = torch.rand(2, 3, 4 * extractor.sizes[0], 4 * extractor.sizes[0])
    with torch.no_grad():
        expected = extractor(image)
        extractor.amp = True
        got = extractor(image)
    assert got.dtype == torch.float32
    assert (got * expected).sum(dim=1).mean() > 0.97


def test_the_guide_lists_every_family_with_its_stride_and_rule() -> None:
    """By networks as large as the usual ones, which are built without memory."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "backbones.md").read_text()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:5]] for line in text.splitlines() if line.startswith("| `")]
    found = {row[0]: row[1:] for row in rows if row[0] in FAMILIES}
    assert found.keys() == FAMILIES.keys()
    for name, (example, stride, rule) in found.items():
        # the default of the class is no DINOv2 that is published
        architecture = {"patch_size": 14} if name == "dinov2_with_registers" else {}
        with torch.device("meta"):
            extractor = build_extractor(BackboneConfig(name, architecture))
        unit, least = extractor.sizes
        assert example == FAMILIES[name].example
        assert (int(stride), rule) == (extractor.stride, f"{unit}, at least {least}" if least > unit else f"{unit}")


@pytest.mark.parametrize(
    ("family", "size", "nearest"),
    [("dinov2", (64, 100), "multiples of 14: the nearest are 56 or 70 x 98 or 112"),
     ("hiera", (64, 72), "multiples of 32: the nearest are 64 x 64 or 96"),
     ("convnext", (16, 40), "multiples of 8, at least 32: the nearest are 32 x 40"),
     ("resnet", (3, 8), "multiples of 8: the nearest are 8 x 8")],
)  # fmt: skip
def test_an_input_that_does_not_fit_is_told_the_nearest_that_does(
    family: str, size: tuple[int, int], nearest: str
) -> None:
    values = {n: v[0] if n == "image_size" and isinstance(v, list) else v for n, v in PUBLISHED[family][1].items()}
    extractor = build_extractor(BackboneConfig(family, values, dimension=8))
    with pytest.raises(CompNetError, match=f"^{size[0]} x {size[1]} pixels do not fit the backbone; .*{nearest}$"):
        extractor.check_input(*size)
