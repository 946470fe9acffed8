"""A recipe made from a look at a folder of images: ``p2pkit init``, and ``p2pkit run`` of a folder."""

from p2pkit.new_recipe.making import NewRecipe, recipe_for, recipe_of_folder

__all__ = ["NewRecipe", "recipe_for", "recipe_of_folder"]
