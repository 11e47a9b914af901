from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from compnet3d.errors import CompNetError
from compnet3d.models.backbones import BackboneConfig, FeatureExtractor, PyramidExtractor, build_extractor
from compnet3d.models.pretrained import load_extractor
from compnet3d.training.builtin_recipes import SMALL_DINOV2, SMALL_RESNET
from tests.networks import TINY_RESNET

VIT = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "patch_size": 16,
       "image_size": 64}  # fmt: skip


def make(family: str, architecture: dict[str, object], **options: int) -> FeatureExtractor:
    extractor = build_extractor(BackboneConfig(family, architecture, dimension=12, **options))
    extractor.amp = False
    return extractor.eval()


@pytest.mark.parametrize(
    ("extractor", "stride"),
    [
        (make("resnet", TINY_RESNET), 8),
        (make("vit", VIT), 16),
        (make("vit", VIT, upsampling=2), 8),
        (make("dinov2", SMALL_DINOV2 | {"num_hidden_layers": 2}), 14),
        (make("dinov2", SMALL_DINOV2 | {"num_hidden_layers": 1}, upsampling=2), 7),
    ],
    ids=["resnet", "vit", "vit up-sampled", "dinov2", "dinov2 up-sampled"],
)
@pytest.mark.parametrize("cells", [(4, 4), (4, 8), (8, 6)], ids=str)
def test_maps_of_unit_vectors_at_the_stride(extractor: FeatureExtractor, stride: int, cells: tuple[int, int]) -> None:
    assert extractor.stride == stride
    height, width = cells[0] * stride, cells[1] * stride
    features = extractor(torch.rand(2, 3, height, width))
    assert features.shape == (2, 12, *cells) and features.dtype == torch.float32
    assert torch.allclose(features.norm(dim=1), torch.ones(2, *cells), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(40, 56), (72, 88), (24, 8)])
def test_a_resnet_takes_odd_multiples_of_its_stride(height: int, width: int) -> None:
    """At these sizes the maps of strides 16 and 32 do not divide evenly."""
    assert make("resnet", TINY_RESNET)(torch.rand(1, 3, height, width)).shape == (1, 12, height // 8, width // 8)


def test_the_small_variants_of_the_recipes_build() -> None:
    small = make("resnet", SMALL_RESNET)
    assert small(torch.rand(1, 3, 64, 96)).shape == (1, 12, 8, 12)
    assert make("dinov2", SMALL_DINOV2)(torch.rand(1, 3, 70, 98)).shape == (1, 12, 5, 7)


def test_bytes_and_fractions_are_the_same_image() -> None:
    extractor = make("resnet", TINY_RESNET)
    image = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    assert torch.allclose(extractor(image), extractor(image.float() / 255), atol=1e-6)


def test_images_are_normalised_by_mean_and_std() -> None:
    """Another normalisation is an affine change of the image's values."""
    plain = make("resnet", TINY_RESNET)
    other = build_extractor(BackboneConfig("resnet", TINY_RESNET, 12, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2)))
    other.amp = False
    other.eval().load_state_dict(plain.state_dict())
    image = torch.rand(1, 3, 32, 32)
    normalised = (image - plain.mean) / plain.std
    assert torch.allclose(other(normalised * other.std + other.mean), plain(image), atol=1e-5)


def test_cells_of_an_up_sampled_token_lie_where_the_token_is() -> None:
    """Token (i, j) of a ViT yields the cells (2i .. 2i+1, 2j .. 2j+1): the projection's rows, in reading order."""
    extractor = make("vit", VIT, upsampling=2)
    image = torch.rand(1, 3, 32, 48)
    normalised = (image - extractor.mean) / extractor.std
    with torch.no_grad():
        tokens = extractor.backbone(normalised, interpolate_pos_encoding=True).last_hidden_state[0, 1:]
        features = extractor(image)[0]
        weight = extractor.projection.weight.reshape(12, 4, 24)
        bias = extractor.projection.bias.reshape(12, 4)
        for i in range(2):
            for j in range(3):
                for cell in range(4):
                    row, column = 2 * i + cell // 2, 2 * j + cell % 2
                    value = weight[:, cell] @ tokens[3 * i + j] + bias[:, cell]
                    expected = normalize(extractor.centre(value[None, :, None, None])[0, :, 0, 0], dim=0)
                    assert torch.allclose(features[:, row, column], expected, atol=1e-4)


def test_fewer_stages_see_less_of_what_is_around_a_cell() -> None:
    """The nearest change around a cell that leaves its feature as it is."""
    image, other = torch.rand(2, 1, 3, 64, 832).unbind(0)
    column = torch.arange(832)
    reach = []
    for stages in (1, 2, 3):
        extractor = build_extractor(BackboneConfig("resnet", TINY_RESNET, 12, stages=stages)).eval()
        extractor.amp = False
        with torch.no_grad():
            features = extractor(image)
            assert features.shape == (1, 12, 8, 104) and extractor.stride == 8
            for distance in range(8, 420, 8):
                far = (column - 420).abs() >= distance
                changed = extractor(torch.where(far, other, image))
                if torch.allclose(changed[0, :, 4, 52], features[0, :, 4, 52], atol=1e-6):
                    break
        reach.append(distance)
    assert reach[0] < reach[1] < reach[2] < 412 and reach[0] < 64


@pytest.mark.parametrize("stages", [0, 4])
def test_a_resnet_has_one_to_three_stages_to_join(stages: int) -> None:
    with pytest.raises(CompNetError, match="joins 1 to 3 stages"):
        build_extractor(BackboneConfig("resnet", TINY_RESNET, 12, stages=stages))


def test_a_map_follows_its_image() -> None:
    """Moving the content of a black image by a whole number of the coarsest cells moves the ResNet's map along."""
    extractor = make("resnet", TINY_RESNET)
    content = torch.rand(3, 64, 64)
    images = torch.zeros(2, 3, 96, 832)
    images[0, :, 16:80, 320:384] = content
    images[1, :, 16:80, 384:448] = content
    maps = extractor(images)
    assert torch.allclose(maps[0, :, :, 38:50], maps[1, :, :, 46:58], atol=1e-4)  # out of the borders' reach
    assert not torch.allclose(maps[0, :, :, 38:50], maps[1, :, :, 38:50], atol=0.1)


def test_images_of_another_shape_are_refused() -> None:
    for shape in [(3, 32, 32), (1, 1, 32, 32)]:
        with pytest.raises(ValueError, match=r"\[B, 3, height, width\]"):
            make("resnet", TINY_RESNET)(torch.rand(shape))


def test_every_parameter_learns() -> None:
    for extractor in (
        make("resnet", TINY_RESNET),
        make("vit", VIT),
        make("dinov2", SMALL_DINOV2 | {"num_hidden_layers": 1}),
    ):
        extractor(torch.rand(2, 3, 4 * extractor.stride, 4 * extractor.stride))[:, 0].sum().backward()
        # the class token's output is not used, and a mask token stands for hidden patches only
        still = {n for n, p in extractor.named_parameters() if p.grad is None and "mask_token" not in n}
        assert not still, still


def test_head_parameters_are_those_outside_the_backbone() -> None:
    extractor = make("resnet", TINY_RESNET)
    head, backbone = {id(p) for p in extractor.head_parameters()}, {id(p) for p in extractor.backbone.parameters()}
    assert not head & backbone and head | backbone == {id(p) for p in extractor.parameters()}


def test_frozen_statistics_stay_as_they_are() -> None:
    extractor = build_extractor(BackboneConfig("resnet", TINY_RESNET, 12, freeze_statistics=True))
    assert isinstance(extractor, PyramidExtractor)
    before = {n: b.clone() for n, b in extractor.backbone.named_buffers()}
    extractor.train()(torch.rand(2, 3, 32, 32))
    assert extractor.training and not any(m.training for m in extractor.backbone.modules() if "Norm" in str(type(m)))
    assert all(torch.equal(b, before[n]) for n, b in extractor.backbone.named_buffers())


def test_configs_survive_json() -> None:
    config = make("vit", VIT, upsampling=2).config
    assert BackboneConfig.from_dict(config.to_dict()) == config
    build_extractor(BackboneConfig.from_dict(config.to_dict()))


def test_bad_configs_are_named() -> None:
    with pytest.raises(CompNetError, match="'swim' is unknown, the nearest is swin; use one of resnet"):
        build_extractor(BackboneConfig("swim"))
    with pytest.raises(CompNetError, match="upsampling 3 does not divide the patch size 16"):
        build_extractor(BackboneConfig("vit", VIT, upsampling=3))


# -- pretrained weights --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(shared_dir: Path) -> torch.Tensor:
    from compnet3d.data.images import load_image

    paths = sorted((shared_dir / "data" / "eth80" / "images").rglob("*.*"))[:400:200]
    if not paths:
        pytest.skip("needs the images of eth80")
    images = [load_image(path).resize((160, 128)) for path in paths]
    return torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) / 255 for i in images])


def weights(shared_dir: Path, name: str) -> Path:
    folder = shared_dir / "weights" / name
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"needs the pretrained weights of {name}")
    return folder


def check_features(extractor: FeatureExtractor, images: torch.Tensor) -> None:
    with torch.no_grad():
        features = extractor(images)
    assert torch.isfinite(features).all()
    assert features.std(dim=(2, 3)).mean() > 0.01  # differs over the image
    assert (features[0] - features[1]).abs().mean() > 0.01  # and between images


def test_the_real_vit_tiny_gives_its_own_class_s_tokens(shared_dir: Path, photographs: torch.Tensor) -> None:
    from transformers import ViTModel

    folder = weights(shared_dir, "vit-tiny")
    extractor = load_extractor(folder, dimension=16, upsampling=2).eval()
    extractor.amp = False
    assert extractor.stride == 8 and extractor.config.mean == extractor.config.std == (0.5, 0.5, 0.5)
    original = ViTModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).eval()
    with torch.no_grad():
        normalised = (photographs - 0.5) / 0.5
        expected = original(normalised, interpolate_pos_encoding=True).last_hidden_state
        got = extractor.backbone(normalised, interpolate_pos_encoding=True).last_hidden_state
    assert torch.allclose(got, expected, atol=1e-3)
    check_features(extractor, photographs)


def test_the_first_layers_of_the_real_vit_tiny_are_kept(shared_dir: Path, photographs: torch.Tensor) -> None:
    from transformers import ViTModel

    folder = weights(shared_dir, "vit-tiny")
    extractor = load_extractor(folder, dimension=16, upsampling=2, layers=5).eval()
    extractor.amp = False
    original = ViTModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).eval()
    with torch.no_grad():
        normalised = (photographs - 0.5) / 0.5
        hidden = original(normalised, interpolate_pos_encoding=True, output_hidden_states=True).hidden_states
        got = extractor.backbone(normalised, interpolate_pos_encoding=True).last_hidden_state
        assert torch.allclose(got, original.layernorm(hidden[5]), atol=1e-3)
    check_features(extractor, photographs)
    again = build_extractor(BackboneConfig.from_dict(extractor.config.to_dict()))
    again.load_state_dict(extractor.state_dict())
    with pytest.raises(CompNetError, match="12 transformer layers, of which 13"):
        load_extractor(folder, layers=13)
    with pytest.raises(CompNetError, match="0 transformer layers, of which 2"):
        load_extractor(weights(shared_dir, "resnet-50"), layers=2)


def test_the_real_resnet_50_gives_its_own_class_s_maps(shared_dir: Path, photographs: torch.Tensor) -> None:
    from transformers import ResNetBackbone

    folder = weights(shared_dir, "resnet-50")
    extractor = load_extractor(folder, dimension=16).eval()
    extractor.amp = False
    assert extractor.stride == 8 and extractor.config.freeze_statistics
    stages = ["stage2", "stage3", "stage4"]
    original = ResNetBackbone.from_pretrained(folder, out_features=stages, dtype=torch.float32).eval()
    with torch.no_grad():
        normalised = (photographs - extractor.mean) / extractor.std
        expected, got = original(normalised).feature_maps, extractor.backbone(normalised).feature_maps
    assert [m.shape[1] for m in got] == [512, 1024, 2048]
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-4) and a.std() > 0
    check_features(extractor, photographs)


def test_a_loaded_extractor_is_rebuilt_from_its_config_alone(shared_dir: Path) -> None:
    extractor = load_extractor(weights(shared_dir, "vit-tiny"), dimension=16)
    again = build_extractor(BackboneConfig.from_dict(extractor.config.to_dict()))
    again.load_state_dict(extractor.state_dict())


def test_sources_that_hold_no_backbone_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CompNetError, match="nobody/no-such-model: no backbone there.*COMPNET3D_WEIGHTS"):
        load_extractor("nobody/no-such-model")
    with pytest.raises(CompNetError, match="no backbone there"):
        load_extractor(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CompNetError, match="'bert' is unknown"):
        load_extractor(tmp_path)
    (tmp_path / "config.json").write_text("{broken")
    with pytest.raises(CompNetError, match="no backbone there"):
        load_extractor(tmp_path)


def test_weights_that_are_absent_broken_or_incomplete_are_named(tmp_path: Path) -> None:
    import json

    from safetensors.torch import load_file, save_file

    extractor = make("vit", VIT)
    extractor.backbone.save_pretrained(tmp_path)
    assert load_extractor(tmp_path, dimension=12).stride == 16
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    tensors = load_file(path)
    path.unlink()
    with pytest.raises(CompNetError, match=f"{tmp_path}: cannot load"):
        load_extractor(tmp_path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CompNetError, match=f"{path}: is no safetensors file"):
        load_extractor(tmp_path)
    tensors.pop(next(name for name in sorted(tensors) if "attention" in name))
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CompNetError, match=f"{tmp_path}: the weights lack 1 tensors"):
        load_extractor(tmp_path)
    path.write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(CompNetError, match=str(tmp_path)):
        load_extractor(tmp_path)
