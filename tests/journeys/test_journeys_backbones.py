"""One network of every family of torchvision and timm goes through a search, or is refused with the
reason listed here.

The networks are the smallest of their families, the images as small as these take. What a family's
networks cannot do is listed; a family that is new in a library is searched like all others.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
import torchvision
from materials import photographs

import nas_attn as na
from nas_attn.errors import BackboneError
from nas_attn.recipe.reading import load_space

pytestmark = pytest.mark.slow
timm = pytest.importorskip("timm")

SIZE = 64  # Side of the images, where a family takes any
SIZES = {
    family: side
    for side, families in {
        96: (
            """
            torchvision/inception timm/gemma4_vit timm/inception_resnet_v2 timm/inception_v3 timm/inception_v4
        """
        ),
        160: (
            """
            timm/maxxvit timm/vision_transformer timm/vision_transformer_relpos
        """
        ),
        224: (
            """
            torchvision/maxvit torchvision/vision_transformer timm/beit timm/cait timm/coat timm/convit
            timm/deepseek_vit timm/deit timm/efficientformer timm/efficientformer_v2 timm/efficientvit_msra
            timm/eva timm/gcvit timm/hiera timm/levit timm/mlp_mixer timm/mvitv2 timm/nest timm/pit
            timm/sequencer timm/swiftformer timm/swin_transformer timm/swin_transformer_v2_cr timm/tnt
            timm/twins timm/visformer timm/vision_transformer_hybrid timm/vitamin timm/volo timm/xcit
        """
        ),
        240: (
            """
            timm/crossvit
        """
        ),
        256: (
            """
            timm/byoanet timm/swin_transformer_v2
        """
        ),
        1024: (
            """
            timm/vision_transformer_sam
        """
        ),
    }.items()
    for family in families.split()
}
"""Family -> side of the images that its network needs."""
SMALLEST = """
    torchvision:convnext_tiny torchvision:mobilenet_v3_small torchvision:regnet_y_400mf torchvision:swin_t
    torchvision:vgg11_bn torchvision:squeezenet1_1 timm:beit_base_patch16_224 timm:eca_halonext26ts
    timm:cait_xxs24_224 timm:coat_tiny timm:convit_tiny timm:convmixer_768_32 timm:cpubone_nano
    timm:crossvit_tiny_240 timm:csatv2 timm:cs3darknet_focus_s timm:cspnext_tiny timm:davit_tiny
    timm:deepseek_vit_412m timm:deit_tiny_patch16_224 timm:densenet121 timm:dla46_c timm:dpn68
    timm:edgenext_x_small timm:efficientformer_l1 timm:efficientformerv2_s0 timm:efficientvim_m1
    timm:efficientvit_b0 timm:efficientvit_m0 timm:eva02_tiny_patch14_224 timm:fasternet_s timm:fastvit_s12
    timm:focalnet_tiny_srf timm:gcvit_xxtiny timm:gemma4_vit_167m_enc timm:ghostnet_050 timm:hardcorenas_a
    timm:hgnetv2_b0 timm:hiera_tiny_224 timm:sam2_hiera_tiny timm:hrnet_w18_small timm:iformer_s
    timm:inception_next_atto timm:inception_resnet_v2 timm:inception_v3 timm:inception_v4 timm:lcnetv2_small
    timm:levit_128s timm:lowformer_b0 timm:poolformer_s12 timm:mixer_s16_224 timm:lcnet_050
    timm:mobilenetv5_base timm:mobilevit_xxs timm:mvitv2_tiny timm:naflexvit_base_patch16_siglip
    timm:nasnetalarge timm:nest_tiny timm:nextvit_small timm:pit_xs_224 timm:pnasnet5large timm:pvt_v2_b0
    timm:qwen3_vit_88m timm:rdnet_tiny timm:regnetx_002 timm:repghostnet_050 timm:repvit_m1
    timm:res2net50_14w_8s timm:resnest14d timm:resnetv2_18 timm:rexnet_100 timm:selecsls42
    timm:legacy_seresnet18 timm:sequencer2d_s timm:shvit_s1 timm:skresnet18 timm:starnet_s050
    timm:swiftformer_xs timm:swin_tiny_patch4_window7_224 timm:swinv2_tiny_window8_256 timm:swinv2_cr_tiny_224
    timm:tiny_vit_5m_224 timm:tnt_s_legacy_patch16_224 timm:tresnet_m timm:twins_svt_small timm:vgg11
    timm:visformer_tiny timm:vit_tiny_r_s16_p8_224 timm:samvit_base_patch16 timm:vitamin_small_224
    timm:volo_d1_224 timm:ese_vovnet19b_slim_dw timm:legacy_xception timm:xception41 timm:xcit_nano_12_p8_224
"""
"""The smallest networks of their families, where these are not the ones with the shortest names."""
REFUSED = """
    torchvision/swin_transformer torchvision/vision_transformer timm/beit timm/cait timm/coat timm/convit
    timm/crossvit timm/deepseek_vit timm/deit timm/eva timm/gemma4_vit timm/hiera timm/hieradet_sam2
    timm/levit timm/mlp_mixer timm/mvitv2 timm/naflexvit timm/nest timm/pit timm/pvt_v2 timm/qwen3_vit
    timm/sequencer timm/swin_transformer timm/swin_transformer_v2 timm/swin_transformer_v2_cr timm/tnt
    timm/vision_transformer timm/vision_transformer_hybrid timm/vision_transformer_relpos
    timm/vision_transformer_sam timm/volo timm/xcit
"""
"""Families that cannot be searched."""
REASON = r"has no stages of 4-D feature maps .* take a convolutional backbone"


WIDE = {"timm/mobilenetv5"}
"""Families whose every stage is so wide that GAM's 7x7 convolutions hold half a billion
parameters.
"""


def families() -> dict[str, list[str]]:
    """`torchvision/resnet` -> names of its networks, as a recipe gives them."""
    found: dict[str, list[str]] = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        module = torchvision.models.get_model_builder(name).__module__.rpartition(".")[2]
        found.setdefault(f"torchvision/{module}", []).append(f"torchvision:{name}")
    for module in timm.list_modules():
        names = timm.list_models(module=module)
        if names:
            found[f"timm/{module}"] = [f"timm:{name}" for name in names]
    return found


FAMILIES = families()


def network(family: str) -> str:
    names = FAMILIES[family]
    known = [n for n in names if n in SMALLEST.split()] or [n for n in names if ":test_" in n]
    return known[0] if known else min(names, key=lambda n: (len(n), n))


def two_types(family: str) -> dict[str, dict[str, object]]:
    """Two kinds of attention for a family: over all families, each kind meets many networks."""
    choices = load_space("plug_and_play").choices
    names = [name for name in choices if name != "none" and (family not in WIDE or name != "gam")]
    first = zlib.crc32(family.encode())
    return {names[(first + step) % len(names)]: {} for step in (0, 7)}


def test_the_lists_name_families_that_there_are() -> None:
    assert {*SIZES, *REFUSED.split()} <= set(FAMILIES)
    assert set(SMALLEST.split()) <= {name for names in FAMILIES.values() for name in names}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_ATTN_LOCK_DIR", str(tmp_path / "locks"))
    photographs(tmp_path / "photos", of_each=22, side=SIZES.get(family, SIZE))
    if family in REFUSED.split():
        with pytest.raises(BackboneError, match=REASON):
            three_trials(family)
        assert not (tmp_path / "nas_attn.db").exists(), "a refusal comes before anything is written"
        return
    study = three_trials(family)
    views = study.candidates()
    assert [(view.state, view.reason) for view in views] == [("scored", "")] * 3
    assert str(views[0].placement) == "none"
    assert all(view.cost["params"] >= views[0].cost["params"] for view in views)
    assert all(view.latency is not None and view.latency.ratio > 0 for view in views)
    assert study.front()
    assert study.report().is_file()


def three_trials(family: str) -> na.Study:
    """The bare backbone, and two kinds at every site, on 66 images."""
    return na.search(
        name="family",
        model=network(family),
        data="folder:photos",
        trials=3,
        say=lambda line: None,
        threads=1,
        device="cpu",
        overrides={
            "space": {"name": "two", "choices": two_types(family)},
            "data.size": SIZES.get(family, SIZE),
            "training.rungs": [1],
            "training.batch_size": 16,
            "training.backbone_epochs": 1,
            "training.learning_rate": 0.01,
            "latency.session_seconds": 0.1,
            "latency.tolerance": 0.9,
            "search.confirm_seeds": 0,
        },
    )
