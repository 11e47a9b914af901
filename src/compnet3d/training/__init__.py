"""Training: recipes, and `train`, which takes a folder, samples, a module or a model to start from."""

from compnet3d.training.builtin_recipes import RECIPES, get_recipe
from compnet3d.training.data import TrainingData
from compnet3d.training.job import TrainOptions
from compnet3d.training.recipe import CompNetRecipe, DualHeadRecipe, NovumRecipe, Recipe
from compnet3d.training.train import train, train_or_load

__all__ = [
    "RECIPES",
    "CompNetRecipe",
    "DualHeadRecipe",
    "NovumRecipe",
    "Recipe",
    "TrainOptions",
    "TrainingData",
    "get_recipe",
    "train",
    "train_or_load",
]
