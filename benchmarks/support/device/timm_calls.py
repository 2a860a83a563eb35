"""Times timm's models in torch, for `benchmarks.device_latency`."""

# pyright: reportMissingImports=false
import timm
import torch

from benchmarks.support.device.case import NUM_CLASSES, Case, Device, peer


def device(platform: str) -> Device:
    """Return torch's device of a platform, "cpu" or "gpu".

    Raises:
      RuntimeError: it has none.
    """
    if platform == "cpu":
        return Device("cpu", "cpu")
    if not torch.cuda.is_available():
        raise RuntimeError("this torch sees no GPU")
    return Device("gpu", torch.cuda.get_device_name())


class FromPixels(torch.nn.Module):
    """A model with all that our call computes, in one graph: pixels to a sum."""

    def __init__(self, model: torch.nn.Module, pixels: torch.Tensor, case: Case):
        super().__init__()
        self.model, self.dtype = model, getattr(torch, case.dtype)
        # No argument: a CUDA graph would copy that at every call.
        self.register_buffer("pixels", pixels)
        self.register_buffer(
            "mean", torch.tensor(case.variant.mean_rgb).reshape(3, 1, 1)
        )
        self.register_buffer("std", torch.tensor(case.variant.std_rgb).reshape(3, 1, 1))

    def forward(self) -> torch.Tensor:
        """Return the sum of the logits."""
        images = (self.pixels - self.mean) / self.std
        return self.model(images.to(self.dtype)).float().sum()


def seconds(case: Case, platform: str) -> list[float]:
    """Return the seconds of each call, eager or compiled."""
    # As XLA does it: try convolutions' algorithms, and compute float32 as TF32.
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    # A view: to torch, this is channels first in the memory format channels last.
    pixels = torch.from_numpy(case.pixels()).permute(0, 3, 1, 2)
    model = timm.create_model(peer(case.variant.name), num_classes=NUM_CLASSES).eval()
    model = model.to(getattr(torch, case.dtype), memory_format=torch.channels_last)
    forward = FromPixels(model, pixels, case)
    forward = forward.to("cuda" if platform == "gpu" else "cpu")
    if case.form == "compiled":
        forward = torch.compile(forward, mode="reduce-overhead", dynamic=False)
    with torch.inference_mode():
        return case.seconds(lambda: forward().item())  # waits for the device
