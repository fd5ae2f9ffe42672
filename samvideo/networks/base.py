"""What every network of its own is: a module that knows the names of its published checkpoint."""

from collections.abc import Mapping

from torch import nn


class Network(nn.Module):
    """A whole network, in the place of an encoder with heads.

    Attributes:
        name: of the model it was built for, for messages.
        unused: entries of the published checkpoint that inference does not read, with their shapes.
    """

    name: str = "network"
    unused: Mapping[str, tuple[int, ...]] = {}

    def published(self, own: str) -> str:
        """Name in the published checkpoint of an entry of the state dict."""
        return own
