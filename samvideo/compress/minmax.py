"""Quantisers between the smallest and the largest value that were seen: what other methods are compared with."""

from dataclasses import dataclass

from torch import Tensor

from samvideo.compress.affine import Affine, MeanRange
from samvideo.compress.fake import Kind, Layer, Method, Quantiser


class Extremes(MeanRange):
    """Smallest and largest value of all batches."""

    def observe(self, x: Tensor, values: Tensor | None = None) -> None:
        """Take a batch into account."""
        low, high = x.aminmax()
        self.low, self.high = self.low.minimum(low), self.high.maximum(high)


@dataclass(frozen=True)
class MinMax(Method):
    """One range for all of a weight or activation."""

    def observer(self, kind: Kind, layer: Layer | None = None) -> Extremes:
        """See `Method.observer`."""
        return Extremes(self.bits)

    def weight(self, layer: Layer, inputs: list[Tensor], quantiser: Quantiser) -> Tensor:
        """See `Method.weight`."""
        weight = layer.weight.detach()
        return Affine.of_range(*weight.aminmax(), self.bits)(weight)
