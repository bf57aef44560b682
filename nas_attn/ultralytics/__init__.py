"""Ultralytics' detectors, with Ultralytics' own trainer.

- `networks`: built from a YAML or a `.pt`
- `plain_yaml`: which files of theirs could run code
- `yolo_task`: detection that Ultralytics' trainer trains, on images that it reads itself
- `rung_trainer`: an evaluator made of a recipe, which calls this trainer
- `caches`: reads its caches of labels without running code of them
- `rebuilding`: keeps attention in networks that Ultralytics builds anew
- `yolo_export`: export as a `.pt` and as ONNX

A user who trains a `YOLO` with attention says so once:

    from nas_attn.ultralytics import keep_attention

    keep_attention()
    model = YOLO("yolo11n.pt")
    nas_attn.attach(model.model, "stage4@stage=se", input_shape=(3, 640, 640))
    model.train(data="data.yaml")
"""


def keep_attention() -> None:
    """Makes ultralytics keep attached attention in networks that it builds anew, as `YOLO.train`
    does. It wraps four of ultralytics' functions, in this process; a second call does nothing.
    """
    from nas_attn.ultralytics import rebuilding

    rebuilding.keep_attention()
