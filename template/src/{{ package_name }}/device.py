"""Where PyTorch computes: on a GPU that was passed into the container, or else on the CPU."""

import torch


def device() -> str:
    """Return "cuda" where PyTorch sees a GPU, otherwise "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def describe() -> str:
    """Return the device, the GPU's name if there is one, and what this PyTorch was built for, in one line."""
    name = f" ({torch.cuda.get_device_name(0)})" if device() == "cuda" else ""
    return f"{device()}{name}, PyTorch {torch.__version__} built for CUDA {torch.version.cuda}"
