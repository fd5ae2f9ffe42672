"""Quantisers whose range is that of the input at hand, so that nothing has to be calibrated."""

from dataclasses import dataclass

from torch import Tensor

from samvideo.compress.affine import Affine
from samvideo.compress.fake import Kind, Layer, Method, Quantiser, rows_of


@dataclass(frozen=True)
class InputRange:
    """Rounds between the smallest and the largest value of each input.

    Attributes:
        bits: of the integers.
    """

    bits: int

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest values."""
        return Affine.of_range(*x.aminmax(), self.bits)(x)


@dataclass(frozen=True)
class _Nothing:
    bits: int

    def observe(self, x: Tensor, values: Tensor | None = None) -> None:
        pass

    def quantiser(self) -> InputRange:
        return InputRange(self.bits)


@dataclass(frozen=True)
class Dynamic(Method):
    """The extremes of each input, and of each row of a weight."""

    def observer(self, kind: Kind, layer: Layer | None = None) -> _Nothing:
        """See `Method.observer`."""
        return _Nothing(self.bits)

    def weight(self, layer: Layer, inputs: list[Tensor], quantiser: Quantiser) -> Tensor:
        """See `Method.weight`."""
        rows = rows_of(layer.weight)
        low, high = rows.aminmax(dim=1, keepdim=True)
        return Affine.of_range(low, high, self.bits)(rows).view_as(layer.weight)
