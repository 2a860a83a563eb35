"""The training step on a device: ours by TensorFlow, timm's by torch with AMP.

Imports no framework up here: each takes memory of the device for itself.
"""

# pyright: reportMissingImports=false
import dataclasses

NUM_CLASSES = 1000
_RECIPE = "gin_configs/runs/imagenet.gin"
OURS, TIMMS = "ours", ("timm eager", "timm compiled")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepCase:
    """A network and how it is trained.

    Attributes:
      name: of our variant; timm's is that of the same network.
      form: OURS or one of TIMMS.
      batch: images a step.
      dtype: of the arithmetic, bfloat16, float16 or float32; weights are float32.
      size: in pixels.
      steps: timed.
      platform: "gpu" or "cpu".
    """

    name: str
    form: str
    batch: int
    dtype: str
    size: int
    steps: int
    platform: str


def seconds(case: StepCase) -> list[float]:
    """Return the seconds of each step, from its start until the device has done it."""
    return ours(case) if case.form == OURS else timms(case)


def ours(case: StepCase) -> list[float]:
    """Time `Trainer.replica_step`, compiled by XLA, with the recipe's own settings."""
    import functools

    import tensorflow as tf

    import models
    from benchmarks.support import supernet_forms
    from models.variants import get_variant
    from train import config

    if case.platform == "gpu":
        gpus = tf.config.list_physical_devices("GPU")
        if not gpus:
            raise RuntimeError("this TensorFlow sees no GPU")
        tf.config.experimental.set_memory_growth(gpus[0], True)
    experiment = config.parse(
        [f"gin_configs/models/{case.name.replace('-', '_')}.gin", _RECIPE],
        [
            "experiment.Experiment.data_dir = 'none'",
            f"experiment.Experiment.global_batch_size = {case.batch}",
            f"experiment.Experiment.eval_batch_size = {case.batch}",
            "experiment.Experiment.batch_norm = 'per_replica'",
            f"experiment.Experiment.precision = {case.dtype!r}",
        ],
    )
    variant = dataclasses.replace(get_variant(case.name), resolution=case.size)
    build = functools.partial(models.build_model, variant, num_classes=None)
    experiment = dataclasses.replace(experiment, build_model=build)
    device = "/gpu:0" if case.platform == "gpu" else "/cpu:0"
    return supernet_forms.seconds_a_step(
        experiment, NUM_CLASSES, case.steps, device=device
    )


def timms(case: StepCase) -> list[float]:
    """Time timm's network as timm trains it: AMP, RMSprop as in TensorFlow, an EMA."""
    import timm
    import torch
    from timm.optim import create_optimizer_v2
    from timm.utils.model_ema import ModelEmaV3

    from benchmarks.support import step_timing
    from benchmarks.support.device.case import peer

    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if case.platform == "gpu" else "cpu")
    name = peer(case.name)
    if name is None:
        raise RuntimeError(f"timm has no {case.name}")
    model = timm.create_model(name, num_classes=NUM_CLASSES, drop_path_rate=0.2).to(
        device, memory_format=torch.channels_last
    )
    average = ModelEmaV3(model, decay=0.9999)
    optimizer = create_optimizer_v2(model, "rmsproptf", lr=0.016, weight_decay=1e-5)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    images = torch.randn(case.batch, 3, case.size, case.size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, NUM_CLASSES, [case.batch], device=device)
    dtype = getattr(torch, case.dtype)
    scaler = torch.amp.GradScaler(device.type, enabled=case.dtype == "float16")
    run = torch.compile(model) if case.form == TIMMS[1] else model

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype, enabled=case.dtype != "float32"):
            value = loss(run(images), labels)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        average.update(model)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step_timing.seconds_a_step(step, wait, case.steps)
