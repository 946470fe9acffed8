"""``p2pkit init``: a recipe from a look at a folder of image pairs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from p2pkit.cli.main import announce
from p2pkit.cli.tables import print_facts, print_text
from p2pkit.errors import RecipeError, visible
from p2pkit.utils.progress import print_line, process_count

if TYPE_CHECKING:
    from p2pkit.new_recipe import NewRecipe


@click.command("init", short_help="Write a recipe for a folder of image pairs.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="The recipe. [default: NAME.toml here]")
def command(folder: Path, out: Path | None) -> None:
    """Look at the image pairs in DIR, and write a recipe that trains them here, with the reason for each key.

    Pairs are files of two folders that are called alike, files of one folder whose names differ by an end (_A, _B), or
    images that show both sides beside each other. It asks nothing: what it cannot know it states, with the line that
    changes it. Six pairs are shown in a picture beside the recipe. `p2pkit run DIR` does the same and trains.
    """
    announce(f"init {folder}")
    file = out or Path(f"{folder.resolve().name or 'images'}.toml")
    _refuse_taken(file)
    made = made_recipe(folder, written_to=file)
    click.echo(visible(f"recipe: {file}"))
    show_pairs(made, folder, file.parent, file.stem)
    click.echo(visible(f"next: p2pkit run {shlex.quote(str(file))}"))


def made_recipe(folder: Path, device: str | None = None, written_to: Path | None = None) -> NewRecipe:
    """A recipe for the pairs in a folder, to run on ``device``; written to a file, prints what was found and decided.

    Raises:
        RecipeError, DataError: as p2pkit.new_recipe.recipe_for.
    """
    if process_count() > 1:
        raise RecipeError(
            f"{folder}: several processes need one recipe; write it first with p2pkit init, then run that"
        )
    print_line(f"looking at {folder}")

    from p2pkit.new_recipe import recipe_for
    from p2pkit.new_recipe.decide import Machine

    made = recipe_for(folder, Machine.this(device))
    if written_to is not None:  # before anything is printed, which a reader may cut off
        from p2pkit.utils.atomic import write_text

        write_text(written_to, made.text)
    print_facts(made.facts)
    for notice in made.notices:
        print_text(f"NOTICE: {notice}")
    click.echo("decided, with the reasons in the recipe:")
    for section in dict.fromkeys(choice.section for choice in made.choices):
        keys = [f"{choice.key} = {choice.shown}" for choice in made.choices if choice.section == section and choice.key]
        if keys:
            print_text(f"[{section}] {', '.join(keys)}", indent=2)
    return made


def report_unused(made: NewRecipe) -> None:
    """Tell of a recipe that `p2pkit init` may have written here: it is not what is made for the folder now."""
    if (file := Path(f"{made.name}.toml")).exists():
        print_line(f"NOTICE: {file} is there and not used, since a folder is given; give that file to go by it")


def show_pairs(made: NewRecipe, of: Path, folder: Path, name: str = "") -> None:
    """Write a picture of some pairs of one folder into another, in place of nothing that is there, and say so."""
    if of.resolve() in (folder.resolve(), *folder.resolve().parents):
        click.echo("pairs: not shown, since a picture here would become a part of the data; init elsewhere shows some")
        return
    stem, number = f"{name or made.name}.pairs", 1
    while (file := folder / f"{stem}{f'-{number}' * (number > 1)}.png").exists():
        number += 1
    made.write_pairs(file)
    click.echo(visible(f"pairs: {file}, to see that they are pairs, and which side is the source"))


def _refuse_taken(file: Path) -> None:
    if file.exists():
        raise RecipeError(f"{file}: there is such a file already, and it is not replaced; give another name with --out")
