"""Attention in ultralytics' models of six generations: in the fused network, in the file, on the
way back.

ultralytics is what users of these models have; nothing of it is needed, or copied, here. Models are
built from its YAMLs.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from attachment_models import shaken
from materials import discs
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import nas_attn as na
from nas_attn import attachment, backbones, errors
from nas_attn.backbones.weight_files import restore
from nas_attn.recipe import recipe
from nas_attn.ultralytics import keep_attention
from nas_attn.ultralytics.yolo_export import write_pt

SHAPE = (3, 64, 64)
GENERATIONS = ["yolov8n", "yolov5n", "yolov6n", "yolov10n", "yolo11n", "yolo12n", "yolo26n"]
pytestmark = [pytest.mark.extras("ultralytics"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def tasks() -> Any:
    from ultralytics.nn import tasks

    keep_attention()
    return tasks


def generations(*quick: str) -> list[Any]:
    return [
        pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in GENERATIONS
    ]


def detector(tasks: Any, name: str) -> nn.Module:
    """A model whose norms have something to say; in double precision, which tells attention from
    rounding.
    """
    torch.manual_seed(0)
    model: nn.Module = tasks.DetectionModel(f"{name}.yaml", verbose=False).double().train()
    with torch.no_grad():
        model(images(4))
    return model.eval()


def images(count: int = 2) -> Tensor:
    return torch.rand(
        count, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def answer(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(images())[0]


def attended(model: nn.Module, position: str) -> nn.Module:
    """With attention, no longer the identity, at every site that has the position."""
    sites = na.find_sites(model, SHAPE, granularity="stage")
    for site in sites:  # each level of a pyramid has a name of its own
        layers = [int(point.path.split(".")[1]) for _, points in site.points for point in points]
        assert max(layers) - min(layers) <= 2, site.name
    where = [
        f"{site.name}@{position}=cbam(reduction=4)" for site in sites if position in site.positions
    ]
    if not where and position == "residual":
        pytest.skip("no block of it adds a shortcut")  # YOLOv6's
    assert where
    return shaken(na.attach(model, " ".join(where), input_shape=SHAPE))


@pytest.mark.parametrize("position", ["residual", "block", "stage"])
@pytest.mark.parametrize("name", generations("yolov8n"))
def test_the_fused_network_has_its_attention(tasks: Any, name: str, position: str) -> None:
    model = detector(tasks, name)
    bare, names = answer(model), list(model.state_dict())
    attended(model, position)
    want = answer(model)
    effect = (want - bare).abs().max()
    assert effect > 1e-7
    assert all(one.takes_part for one in na.check(model, SHAPE))
    fused: Any = copy.deepcopy(model)
    fused.fuse(verbose=False)
    assert fused.is_fused()
    assert (answer(fused) - want).abs().max() < 0.01 * effect
    assert list(attachment.attached_modules(fused)) == list(attachment.attached_modules(model))
    assert all(one.takes_part for one in na.check(fused, SHAPE))
    na.detach(model)
    assert torch.equal(answer(model), bare)
    assert list(model.state_dict()) == names
    model.fuse(verbose=False)  # type: ignore[operator]
    bare = answer(model)
    assert (answer(attended(model, "block")) - bare).abs().max() > 1e-7, (
        "a fused network takes attention, too"
    )
    assert torch.equal(answer(na.detach(model)), bare)


def test_sites_are_those_of_its_yaml(tasks: Any) -> None:
    """The backbone's C2f, then the neck's, whatever their size; boxes and classes only if asked
    for.
    """
    sites = {
        site.name: site
        for site in na.find_sites(detector(tasks, "yolov8n"), SHAPE, granularity="stage")
    }
    assert list(sites) == [f"stage{k}" for k in range(1, 6)] + [f"neck{k}" for k in range(1, 5)]
    assert [site.role for site in sites.values()] == ["backbone"] * 5 + ["neck"] * 4
    after = [site.at("stage")[0].path for site in sites.values()]
    assert after == [f"model.{layer}" for layer in (2, 4, 6, 8, 9, 12, 15, 18, 21)]
    asked = na.find_sites(detector(tasks, "yolov8n"), SHAPE, granularity="stage", heads=True)
    assert [site.name for site in asked if site.role == "head"] == [f"head{k}" for k in range(1, 7)]


def test_its_wrapper_is_refused_with_the_way_out(tasks: Any) -> None:
    from ultralytics import YOLO

    with pytest.raises(errors.BackboneError, match=r"YOLO .* give its \.model"):
        na.find_sites(YOLO("yolov8n.yaml"), SHAPE)


PLACEMENT = "stage3@stage=cbam(reduction=4) neck2@stage=eca"


def training(tmp_path: Path, task: str = "detect") -> dict[str, Any]:
    """How ultralytics trains for a moment."""
    how: dict[str, Any] = {
        "imgsz": 64,
        "batch": 4,
        "workers": 0,
        "device": "cpu",
        "plots": False,
        "verbose": False,
    }
    how |= {"optimizer": "SGD", "lr0": 0.1, "warmup_epochs": 0, "project": str(tmp_path / "runs")}
    return {**how, "data": str(discs(tmp_path / "discs", task))}


def attention(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.float().clone()
        for name, value in model.state_dict().items()
        if ".nas_attn." in name
    }


HEADS = ["yolov9t", "yolo11n-seg", "yolo11n-pose", "yolo11n-obb", "yolo11n-cls", "rtdetr-resnet50"]
CONVERTERS = {
    "torchscript": "torch",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "ncnn": "ncnn",
    "mnn": "MNN",
}
"""Ultralytics' formats that run on this machine -> the package that each needs."""


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", [*GENERATIONS, *HEADS])
def test_trained_validated_and_exported_by_ultralytics(
    tasks: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its own trainer trains, averages, writes, fuses and exports has the attention that was
    attached.
    """
    from ultralytics import RTDETR, YOLO
    from ultralytics.nn.autobackend import AutoBackend

    monkeypatch.chdir(tmp_path)
    yolo = (RTDETR if name.startswith("rtdetr") else YOLO)(f"{name}.yaml")
    kinds = {
        "stage3@stage=cbam(reduction=4)": "ConvolutionalBlockAttention",
        "neck2@stage=eca": "EfficientChannel",
    }
    if yolo.task == "classify":
        kinds.popitem()
    na.attach(yolo.model, " ".join(kinds), input_shape=SHAPE, init="paper")
    how = training(tmp_path, yolo.task)
    yolo.train(epochs=1, **how)
    best = spread(YOLO(yolo.trainer.best))
    model = YOLO(best).model.float()
    ran: set[str] = set()
    for module in attachment.attached_modules(model).values():
        module.register_forward_hook(lambda module, *_: ran.add(type(module).__name__))
    want, bare = first(model, images(1)), first(na.detach(YOLO(best).model.float()), images(1))
    assert ran == set(kinds.values())
    effect = (want - bare).abs().max()
    assert effect > 1e-7
    assert (
        YOLO(best)
        .val(**{key: how[key] for key in ("data", "imgsz", "device", "workers", "plots")})
        .results_dict
    )
    for form, package in CONVERTERS.items():
        left_out = form != "onnx" and name in GENERATIONS and name != "yolo11n"
        if left_out or find_spec(package) is None or (form, name) == ("ncnn", "rtdetr-resnet50"):
            continue
        file = YOLO(best).export(
            format=form, imgsz=64, device="cpu", **({"simplify": False} if form == "onnx" else {})
        )
        there = first(AutoBackend(str(file), device=torch.device("cpu")), images(1))
        assert there.shape == want.shape
        if form == "openvino":  # of which ultralytics takes bfloat16 where the processor has it
            import openvino

            exact = {"INFERENCE_PRECISION_HINT": "f32"}
            model = openvino.Core().compile_model(next(Path(file).glob("*.xml")), "CPU", exact)
            there = torch.from_numpy(model(images(1).float().numpy())[0])
        assert (there - want).abs().max() < 0.02 * effect, form


def spread(yolo: Any) -> Path:
    """A file of the network with its batch's own statistics: a fresh network's let nothing through
    to the end.
    """
    network = yolo.model.float().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(images(4).float())
    path = Path("spread.pt")
    yolo.save(path)
    return path


def first(model: Any, x: Tensor) -> Tensor:
    """The first of a network's or a file's answers."""
    with torch.no_grad():
        return torch.as_tensor(tree_leaves(model.eval()(x.float()))[0])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_trained_network_is_trained_further_and_resumed_with_its_attention(
    tasks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics import YOLO

    monkeypatch.chdir(tmp_path)
    how = training(tmp_path)
    first = YOLO("yolov8n.yaml")
    na.attach(first.model, PLACEMENT, input_shape=SHAPE, init="paper")

    class Stopped(Exception):
        pass

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise Stopped

    first.add_callback("on_train_epoch_start", stop)
    with pytest.raises(Stopped):
        first.train(epochs=2, name="first", **how)
    last = str(first.trainer.last)
    want = attention(YOLO(last).model)
    assert want
    begun: list[dict[str, Tensor]] = []
    for options in ({**how, "epochs": 1, "name": "further"}, {"resume": True}):
        again = YOLO(last)
        again.add_callback(
            "on_train_start", lambda trainer: begun.append(attention(trainer.ema.ema))
        )
        again.train(**options)
        torch.testing.assert_close(begun.pop(), want)
        inside = [module for path, module in again.model.named_modules() if ".nas_attn." in path]
        assert {module.eps for module in inside if isinstance(module, nn.BatchNorm2d)} <= {1e-5}
        assert all(one.takes_part for one in na.check(again.model.float(), SHAPE))


def test_several_gpus_need_a_file_with_the_attention(tasks: Any) -> None:
    from ultralytics import YOLO

    yolo = YOLO("yolov8n.yaml")
    na.attach(yolo.model, PLACEMENT, input_shape=SHAPE)
    with pytest.raises(errors.BackboneError, match=r"device=\[0, 1\] .* save it"):
        yolo.train(data="coco8.yaml", device=[0, 1])


def test_networks_built_from_its_yaml_have_the_attention_and_its_own_norms(tasks: Any) -> None:
    model: Any = tasks.DetectionModel("yolov8n.yaml", verbose=False)
    na.attach(model, PLACEMENT, input_shape=SHAPE, init="paper")
    built = tasks.DetectionModel(model.yaml, nc=3, verbose=False)
    assert list(attachment.attached_modules(built)) == list(attachment.attached_modules(model))
    built.load(model)
    torch.testing.assert_close(attention(built), attention(model))
    bare = tasks.DetectionModel("yolov8n.yaml", verbose=False)
    assert not attachment.attached_modules(bare)
    with pytest.raises(errors.BackboneError, match=r"YOLO\('FILE\.pt'\)"):
        bare.load(model)
    assert not attachment.attached_modules(
        tasks.DetectionModel(na.detach(model).yaml, verbose=False)
    )


@pytest.mark.parametrize("name", generations("yolov8n", "yolo11n"))
def test_a_pt_of_other_classes_gives_its_layers_with_its_weights_or_random_ones(
    tasks: Any, name: str, tmp_path: Path
) -> None:
    """The branch for the classes is as wide as the `.pt` has it, so what is begun from its weights
    takes them.
    """
    source = tasks.DetectionModel(f"{name}.yaml", verbose=False)
    path = tmp_path / "mine.pt"
    write_pt(source, path, [str(k) for k in range(80)], 64)
    section = recipe.BackboneSection(name=f"ultralytics:{path}")
    bare = backbones.build(section, input_shape=SHAPE, classes=10)
    drawn = {key: value.clone() for key, value in bare.state_dict().items()}
    weights = backbones.build(section, input_shape=SHAPE, classes=10, pretrained=True).state_dict()
    restore(bare, weights)
    assert all(torch.equal(value, weights[key]) for key, value in bare.state_dict().items())
    theirs = source.state_dict()
    taken = [
        key for key, value in weights.items() if torch.equal(value, theirs.get(key, torch.empty(0)))
    ]
    assert len(taken) > 0.9 * len(weights)
    convolutions = [
        key for key, value in drawn.items() if value.ndim == 4 and value.shape[1:].numel() > 16
    ]
    assert not any(torch.equal(drawn[key], weights[key]) for key in convolutions)
