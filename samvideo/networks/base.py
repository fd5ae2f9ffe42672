"""What every network of its own is: a module that knows the names of its published checkpoint."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import nn


class Network(nn.Module):
    """A whole network, in the place of an encoder with heads.

    Attributes:
        name: of the model it was built for, for messages.
        unused: entries of the published checkpoint that inference does not read, with their shapes.
        precision: number format in which `autocast` multiplies.
    """

    name: str = "network"
    unused: Mapping[str, tuple[int, ...]] = {}
    precision: torch.dtype = torch.float32

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def convert(self, device: torch.device, precision: torch.dtype) -> None:
        """Move to a device, in place; parameters stay float32, those of convolutions get channels-last."""
        self.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision = precision

    def autocast(self) -> AbstractContextManager[None]:
        """Where layers may multiply in `precision`."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def published(self, own: str) -> str:
        """Name in the published checkpoint of an entry of the state dict."""
        return own
