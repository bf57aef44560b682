"""Ultralytics' detectors, with Ultralytics' own trainer.

- `networks`: built from a YAML or a `.pt`
- `yolo_task`: detection that Ultralytics' trainer trains, on images that it reads itself
- `rung_trainer`: an evaluator made of a recipe, which calls this trainer
- `rebuilding`: keeps attention in networks that Ultralytics builds anew
- `yolo_export`: export as a `.pt` and as ONNX

A user who trains a `YOLO` with attention says so once:

    from nas_attn.ultralytics import keep_attention

    keep_attention()
    model = YOLO("yolo11n.pt")
    nas_attn.attach(model.model, "stage4@stage=se", input_shape=(3, 640, 640))
    model.train(data="data.yaml")
"""

from typing import Any


def keep_attention() -> None:
    """Makes ultralytics keep attached attention in networks that it builds anew, as `YOLO.train`
    does. It wraps four of ultralytics' functions, in this process; a second call does nothing.
    """
    from nas_attn.ultralytics import rebuilding

    rebuilding.keep_attention()


def train_attention(yolo: Any) -> None:
    """Lets attention learn where `yolo.train(freeze=…)` freezes the layers around it.

    Ultralytics freezes by name, and puts the norms of frozen layers into evaluation before each
    epoch. Both are taken back for attention, by callbacks. They are called in this process only, so
    train on one GPU.

        train_attention(yolo)
        yolo.train(data="data.yaml", freeze=10)

    Args:
        yolo: a `YOLO` or `RTDETR`, or a trainer of theirs.
    """
    from nas_attn.attachment.attaching import attached_modules

    def thaw(trainer: Any) -> None:
        for module in attached_modules(trainer.model).values():
            module.requires_grad_(True).train()

    yolo.add_callback("on_pretrain_routine_end", thaw)
    yolo.add_callback("on_train_batch_start", thaw)
