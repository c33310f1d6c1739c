"""The networks by name: counts, grids, gradients, export, and each one's own parts."""

import copy
import json
import logging
import re
from collections import OrderedDict

import pytest
import torch
from conftest import BUNDLE, CONFIGS
from monai.bundle import ConfigParser
from monai.networks.utils import convert_to_onnx

from scripts.core.errors import UserError
from scripts.networks.blocks import Block, check_multiple
from scripts.networks.cardiac_unet import CardiacUNet
from scripts.networks.coarse_fcn import AlexNetFCN, SmallFCN
from scripts.networks.feature_pyramid import FeaturePyramid
from scripts.networks.residual_attention_unet import Gate, ResidualAttentionUNet
from scripts.networks.resnext import ResNeXt50
from scripts.networks.resnext_unet import ResNeXtUNet
from scripts.networks.segnet import SegNet, unpool
from scripts.networks.unet import UNet

ENTRIES = {name: entry for name, entry in json.loads((CONFIGS / "networks.json").read_text()).items() if name[0] != "_"}
OWN = [name for name, entry in ENTRIES.items() if entry["_target_"].startswith("scripts.")]
KNOBS = {"features": 4, "dropout": 0.3, "encoder_weights": None}
COUNTS = [  # name, spatial_dims, in_channels, out_channels, parameters
    ("improved_unet", 3, 1, 6, 9_892_034),
    ("improved_unet_paper", 3, 1, 6, 9_465_666),
    ("residual_attention_unet", 3, 1, 6, 5_978_207),
    ("unet_64", 2, 1, 6, 7_696_518),
    ("unet_32", 2, 3, 1, 7_763_041),
    ("residual_unet_32", 2, 3, 1, 7_938_209),
    ("cardiac_unet", 2, 1, 4, 12_255_896),
    ("cardiac_unet_2", 2, 1, 4, 8_284_348),
    ("segnet", 2, 1, 4, 29_444_164),
    ("alexnet_fcn", 2, 1, 4, 29_962_948),
    ("small_fcn", 2, 1, 4, 18_920),
    ("resnext_unet", 2, 3, 1, 30_947_777),
    ("feature_pyramid", 2, 3, 1, 25_242_561),
    ("monai_unet", 3, 1, 2, 4_806_481),
    ("basic_unet", 3, 1, 2, 5_749_410),
    ("attention_unet", 3, 1, 2, 5_860_734),
    ("dynunet", 3, 1, 2, 16_543_650),
    ("segresnet", 3, 1, 2, 4_700_914),
]


def made(network_def, dims: int, in_channels: int = 1, out_channels: int = 2, **knobs) -> torch.nn.Module:
    """The network of a `network_def`, as a configuration that defines these ids at its top would make it."""
    given = {"spatial_dims": dims, "in_channels": in_channels, "out_channels": out_channels, **KNOBS, **knobs}
    parser = ConfigParser({**given, "network_def": copy.deepcopy(network_def)})
    parser.parse()
    torch.manual_seed(0)
    return parser.get_parsed_content("network_def")


def narrow(name: str, dims: int, **arguments) -> torch.nn.Module:
    """The network of that name with few channels, where it has an argument for them."""
    entry, few = ENTRIES[name], {"pyramid_width": 8, "head_width": 8, "pyramid_norm": ["group", {"num_groups": 4}]}
    entry = {key: few.get(key, value) for key, value in entry.items()}
    widths = {key: [16] * len(entry[key]) for key in ("widths", "channels", "filters", "features") if key in entry}
    if widths and entry[next(iter(widths))] != "@features":
        entry.update(widths)
    return made({**entry, **arguments}, dims)


def image(network: torch.nn.Module, dims: int, channels: int = 1, count: int = 2) -> torch.Tensor:
    """The smallest batch that suits: two voxels along one axis of the coarsest grid, one along the others."""
    divisor = getattr(network, "divisor", 16)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, 2 * divisor, *[divisor] * (dims - 1), generator=generator)


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name, dims, in_channels, out_channels, expected", COUNTS)
def test_parameter_counts_by_name(name, dims, in_channels, out_channels, expected, monkeypatch):
    monkeypatch.chdir(BUNDLE)
    with torch.device("meta"):
        network = made(f"%configs/networks.json::{name}", dims, in_channels, out_channels, features=16)
    assert count(network) == expected
    assert all(p.requires_grad for p in network.parameters())


def test_every_name_has_a_count_and_takes_what_a_configuration_defines():
    assert [row[0] for row in COUNTS] == list(ENTRIES)
    for name, entry in ENTRIES.items():
        for argument in ("spatial_dims", "in_channels", "out_channels"):
            assert entry[argument] == f"@{argument}", name


def test_counts_of_parts():
    block = {"act": "leakyrelu", "norm": ("group", {"num_groups": 8}), "bias": False, "shortcut_bias": False}
    assert count(Block(3, 1, 32, shortcut=1, **block)) == 28_672
    assert count(Block(3, 64, 64, shortcut=64, **block)) == 221_440
    assert count(Gate(3, 64, 32, 16, "leakyrelu", block["norm"])) == 1_651
    with torch.device("meta"):
        assert count(ResNeXt50()) == 22_979_904


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ENTRIES)
def test_logits_on_the_image_s_grid_and_gradients_everywhere(name, dims):
    network = narrow(name, dims).train()
    x = image(network, dims)
    out = network(x)
    assert out.shape == (2, 2, *x.shape[2:])
    assert out.min() < 0 or out.max() > 1
    out.square().mean().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name
        if parameter.ndim > 1:  # a bias before a normalisation cancels
            assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", OWN)
def test_scripted_network_agrees(name):
    network = narrow(name, 2).eval()
    scripted = torch.jit.script(network)
    x = image(network, 2, count=1)
    with torch.no_grad():
        torch.testing.assert_close(scripted(x), network(x))


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", OWN)
def test_onnx_export_agrees(name, dims, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    network = narrow(name, dims).eval()
    x = image(network, dims, count=1)
    file = str(tmp_path / "model.onnx")
    convert_to_onnx(network, [x], filename=file, input_names=["image"], use_trace=False)
    output = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"image": x.numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(output), network(x), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in OWN if "dropout" in ENTRIES[name]])
def test_dropout_acts_in_training_only(name):
    network = narrow(name, 2, dropout=0.5, **({"norm": None} if "norm" in ENTRIES[name] else {}))
    x = image(network, 2)
    with torch.no_grad():
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))


@pytest.mark.parametrize(
    "name, bad",
    [
        ("improved_unet", (64, 40)),
        ("residual_attention_unet", (8, 12)),
        ("residual_attention_unet", (8, 8)),
        ("unet_64", (20, 8)),
        ("unet_32", (96, 100)),
        ("cardiac_unet", (90, 90)),
        ("cardiac_unet", (32, 32)),
        ("alexnet_fcn", (96, 100)),
        ("small_fcn", (98, 96)),
        ("resnext_unet", (40, 32)),
        ("feature_pyramid", (256, 240)),
        ("segnet", (64, 31)),
    ],
)
def test_a_bad_size_is_refused_and_a_good_one_suggested(name, bad):
    network = narrow(name, 2).eval()
    with pytest.raises(ValueError) as caught:
        network(torch.zeros(1, 1, *bad))
    assert f"spatial size {bad}" in str(caught.value)
    better = [int(n) for n in re.search(r"\(([\d, ]+)\) would do", str(caught.value))[1].split(",")]
    assert all(new >= old for new, old in zip(better, bad, strict=True))
    network.check_size(better)
    with torch.no_grad():
        assert network(torch.zeros(1, 1, *better)).shape[2:] == tuple(better)


def test_one_voxel_will_do_where_nothing_is_normalised_over_it():
    check_multiple((8, 8), 8, single_voxel=True)
    UNet(widths=(2, 4, 8)).check_size((4, 4))
    with pytest.raises(ValueError, match=r"multiple of 4, and one larger than 4; \(8, 8\) would do"):
        UNet(widths=(2, 4, 8), norm="batch").check_size((4, 4))
    with pytest.raises(ValueError, match=r"multiple of 8; \(8, 8\) would do"):
        check_multiple((0, 8), 8, single_voxel=True)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: UNet(widths=[64]), ["[64]", "2 or more"]),
        (lambda: ResidualAttentionUNet(widths=[]), ["[]", "2 or more"]),
        (lambda: CardiacUNet(widths=[8]), ["[8]", "2 or more"]),
        (lambda: FeaturePyramid(widths=[8, 8]), ["[8, 8]", "3 or more"]),
        (lambda: SegNet(widths=[8, 8]), ["2 widths", "5 counts"]),
        (lambda: AlexNetFCN(widths=[8, 8]), ["[8, 8]", "five"]),
        (lambda: SmallFCN(widths=[8, 8]), ["2 widths", "3 kernel sizes"]),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError) as caught:
        make()
    assert all(word in str(caught.value) for word in words)


def kernels(network: torch.nn.Module) -> list[int]:
    return [m.kernel_size[0] for m in network.modules() if isinstance(m, torch.nn.Conv2d)]


def test_arguments_change_what_they_name():
    unet = UNet(widths=(4, 8), convolutions=1, kernel_size=5, act="gelu", norm="instance", bias=False)
    assert kernels(unet) == [5, 5, 5, 1]
    assert [type(m).__name__ for m in unet.encoder[0].modules() if not list(m.children())] == [
        "Conv2d", "InstanceNorm2d", "GELU",
    ]  # fmt: skip
    assert not any("bias" in name for name, _ in unet.encoder.named_parameters())
    cardiac = CardiacUNet(widths=(4, 8, 16), convolutions=2, first_kernel_size=9, kernel_size=5)
    assert kernels(cardiac) == [9, 9] + [5, 5] * 5
    assert cardiac.divisor == 8
    prelu = ResidualAttentionUNet(spatial_dims=2, widths=(4, 8), act="prelu", norm=("group", {"num_groups": 2}))
    assert {m.num_groups for m in prelu.encoder.modules() if isinstance(m, torch.nn.GroupNorm)} == {2}
    assert sum(isinstance(m, torch.nn.PReLU) for m in prelu.modules()) == 7


def test_shortcut_adds_the_input_going_down_and_the_upsampled_going_up():
    network = UNet(in_channels=3, widths=(4, 8), norm="batch", bias=False, shortcut=True).eval()
    first, last = network.encoder[0], network.decoder[0]
    for block in (first, last):
        for parameter in block.convolutions.parameters():
            torch.nn.init.zeros_(parameter)
    x, up, joined = torch.randn(1, 3, 8, 8), torch.randn(1, 4, 8, 8), torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(first(x, x), first.shortcut(x).relu())
        assert torch.equal(last(joined, up), up.relu())
    assert isinstance(last.shortcut, torch.nn.Identity)
    assert UNet(widths=(4, 8)).encoder[0].shortcut is None


def test_gate_scales_the_skip_between_nothing_and_all():
    torch.manual_seed(0)
    gate = Gate(3, 16, 8, 4, "leakyrelu", ("group", {"num_groups": 2}))
    signal, skip = torch.randn(1, 16, 4, 4, 4), torch.randn(1, 8, 4, 4, 4)
    with torch.no_grad():
        share = gate(signal, skip) / skip
        assert share.min() > 0 and share.max() < 1 and share.std() > 0.01
        torch.testing.assert_close(share, share[:, :1].expand_as(share))  # one map for all channels
        assert not torch.equal(gate(-signal, skip), gate(signal, skip))
        torch.nn.init.zeros_(gate.map.adn.N.weight)
        torch.testing.assert_close(gate(signal, skip), skip / 2)


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (9, 5)])
def test_unpooling_is_torch_s(size):
    x = torch.randn(2, 3, *size)
    pooled, places = torch.nn.functional.max_pool2d(x, 2, return_indices=True)
    expected = torch.nn.functional.max_unpool2d(pooled, places, 2, output_size=x.shape)
    assert torch.equal(unpool(pooled, places, list(x.shape)), expected)


@pytest.mark.parametrize("shape", [(33, 70), (96, 96), (32, 32), (40, 35, 33)])
def test_segnet_takes_any_size(shape):
    network = narrow("segnet", len(shape)).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 1, *shape)).shape == (1, 2, *shape)
    assert len(kernels(SegNet(widths=[2] * 5).encoder)) == 13


@pytest.mark.parametrize("network, cell", [(SmallFCN(), 4), (AlexNetFCN(widths=[8] * 5, head_width=8), 32)])
def test_coarse_logits_are_interpolated_to_the_grid(network, cell):
    x = torch.randn(1, 1, 96, 64)
    with torch.no_grad():
        coarse, out = network.eval().layers(x), network(x)
    assert coarse.shape == (1, 4, 96 // cell, 64 // cell)
    assert out.shape == (1, 4, 96, 64)
    assert coarse.min() <= out.min() and out.max() <= coarse.max()


def test_coarse_cells_lie_over_the_voxels_they_read():
    """What a cell sees is centred on it, to within a voxel: otherwise the interpolated map would be shifted."""
    network = AlexNetFCN(widths=[2] * 5, head_width=2, dropout=0.0)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    network.layers = torch.nn.Sequential(
        *[torch.nn.AvgPool2d(2) if isinstance(m, torch.nn.MaxPool2d) else m for m in network.layers]
    )
    for model, cell in ((network, 32), (SmallFCN(act="relu"), 4)):
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, 0.1)
        x = torch.ones(1, 1, 9 * cell, 9 * cell, requires_grad=True)
        model.layers(x)[0, 0, 4, 4].backward()
        seen = x.grad[0, 0].sum(0)
        centre = (seen * torch.arange(len(seen))).sum() / seen.sum()
        assert abs(centre - (4.5 * cell - 0.5)) <= 1


def torchvision_shapes() -> OrderedDict:
    """Names and shapes in torchvision's file of ResNeXt-50 32x4d, written down from the published structure."""
    shapes: OrderedDict = OrderedDict()

    def norm(name, width):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    shapes["conv1.weight"] = (64, 3, 7, 7)
    norm("bn1", 64)
    before = 64
    for stage, blocks, grouped, out in [(1, 3, 128, 256), (2, 4, 256, 512), (3, 6, 512, 1024), (4, 3, 1024, 2048)]:
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            shapes[f"{at}.conv1.weight"] = (grouped, before, 1, 1)
            norm(f"{at}.bn1", grouped)
            shapes[f"{at}.conv2.weight"] = (grouped, grouped // 32, 3, 3)
            norm(f"{at}.bn2", grouped)
            shapes[f"{at}.conv3.weight"] = (out, grouped, 1, 1)
            norm(f"{at}.bn3", out)
            if block == 0:
                shapes[f"{at}.downsample.0.weight"] = (out, before, 1, 1)
                norm(f"{at}.downsample.1", out)
            before = out
    shapes["fc.weight"], shapes["fc.bias"] = (1000, 2048), (1000,)
    return shapes


def torchvision_file() -> OrderedDict:
    generator = torch.Generator().manual_seed(2)
    return OrderedDict(
        (name, torch.rand(shape, generator=generator) if shape else torch.tensor(3))
        for name, shape in torchvision_shapes().items()
    )


def test_encoder_has_torchvision_s_names_and_shapes():
    with torch.device("meta"):
        ours = {name: tuple(value.shape) for name, value in ResNeXt50().state_dict().items()}
    published = torchvision_shapes()
    assert published["layer3.5.conv2.weight"] == (512, 16, 3, 3)
    learned = [n for n in published if not re.search(r"running|tracked", n)]
    assert sum(torch.Size(published[n]).numel() for n in learned) == 25_028_904  # torchvision's own figure
    assert list(ours.items()) == [item for item in published.items() if not item[0].startswith("fc.")]


@pytest.mark.parametrize("old", [False, True])
def test_encoder_starts_from_a_file(old, tmp_path):
    given = torchvision_file()
    if old:  # as files were before torch 1.6, and without the counters of batch norm
        given = OrderedDict((name, value) for name, value in given.items() if "tracked" not in name)
    torch.save(given, tmp_path / "weights.pth", _use_new_zipfile_serialization=not old)
    network = ResNeXtUNet(encoder_weights=str(tmp_path / "weights.pth"))
    for name, value in network.encoder.state_dict().items():
        if name in given:
            assert torch.equal(value, given[name]), name
    network.eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 16)).shape == (1, 1, 32, 16)


def without_groups(given):
    return {**given, "layer1.0.conv2.weight": torch.zeros(128, 128, 3, 3)}


@pytest.mark.parametrize(
    "change, channels, words",
    [
        (without_groups, 3, ["layer1.0.conv2.weight is 128x128x3x3, expected 128x4x3x3;"]),
        (lambda given: {"model": given}, 3, ["has no conv1.weight", "and 265 more"]),
        (lambda given: {**given, "layer3.6.conv1.weight": torch.zeros(1)}, 3, ["layer3.6.conv1.weight is unknown"]),
        (lambda given: {**given, "bn1.bias": 1}, 3, ["bn1.bias is int, expected 64"]),
        (lambda given: {**given, "bn1.num_batches_tracked": torch.zeros(2)}, 3, ["is 2, expected a number"]),
        (lambda given: given, 1, ["1 channels in 2D", "conv1.weight is 64x3x7x7, expected 64x1x7x7"]),
        (lambda given: [1, 2], 3, ["contains a list"]),
        (lambda given: None, 3, ["not readable as weights"]),
    ],
)
def test_another_network_s_file_is_refused_in_a_line(change, channels, words, tmp_path):
    file = tmp_path / "weights.pth"
    content = change(torchvision_file())
    torch.save(content, file) if content is not None else file.write_bytes(b"no weights")
    encoder = ResNeXt50(in_channels=channels)
    before = encoder.layer4[2].conv3.weight.clone()
    with pytest.raises(UserError) as caught:
        encoder.load(file)
    message = str(caught.value)
    assert "\n" not in message and str(file) in message and all(word in message for word in words), message
    assert torch.equal(encoder.layer4[2].conv3.weight, before)


def test_a_missing_file_of_weights_is_named():
    with pytest.raises(UserError, match="nowhere.pth not readable as weights .FileNotFoundError"):
        ResNeXtUNet(encoder_weights="nowhere.pth")


def test_skips_of_the_resnext_unet_are_added():
    network = ResNeXtUNet(head_width=4).eval()
    for parameter in network.decoder.parameters():
        torch.nn.init.zeros_(parameter)
    seen = []
    for upsampling in network.decoder:
        upsampling.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        network(x)
        stages = network.encoder(x)
    assert [stage.shape[1:] for stage in stages] == [(256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)]
    assert all(torch.equal(a, b) for a, b in zip(seen, reversed(stages), strict=True))
