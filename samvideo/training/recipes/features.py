"""Decoupled distillation: the encoder learns the teacher's image embedding, the heads stay the teacher's.

Sources: Zhang et al. 2023, MobileSAM (decoupled distillation); Wang et al. 2023, RepViT-SAM.
"""

from dataclasses import dataclass

from torch import Tensor

from samvideo.image_model import ImageModel
from samvideo.training.distil_recipe import Lesson, Recipe, RecipeConfig, encoded, features_loss, train_only


@dataclass(frozen=True)
class FeaturesConfig(RecipeConfig):
    """No options of its own."""

    def build(self, student: ImageModel, teacher: ImageModel) -> "FeaturesRecipe":
        """See `RecipeConfig.build`."""
        return FeaturesRecipe(student, teacher)


class FeaturesRecipe(Recipe):
    """Mean squared error of feature maps; the encoder learns."""

    def __init__(self, student: ImageModel, teacher: ImageModel) -> None:
        super().__init__(student, teacher)
        train_only(student, "encoder")

    def losses(self, lesson: Lesson) -> dict[str, Tensor]:
        """See `Recipe.losses`."""
        return {"features": features_loss(encoded(self.student, lesson.pictures), lesson.features)}


VARIANTS = {"features": FeaturesConfig()}
