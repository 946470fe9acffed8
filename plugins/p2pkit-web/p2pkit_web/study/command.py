"""``p2pkit study``: the perceptual test, from images to results."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2pkit_web.options import HOST, OPEN, PORT, TOKEN, address_of, note_on, token_for

if TYPE_CHECKING:
    from p2pkit import Translator
    from p2pkit_web.study.folder import Study

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
OF_STUDY = ("practice", "trials", "checks", "seconds", "showing", "pairing", "size", "seed")
"""What is settled when a study is made."""


def _setting(name: str, kind: Any, metavar: str | None, text: str) -> Callable[[Decorated], Decorated]:
    from p2pkit_web.study.folder import Settings

    default = getattr(Settings(), name)
    return click.option(f"--{name}", type=kind, metavar=metavar, help=f"{text} [default: {default}]")


@click.command("study", short_help="Real or fake? The paper's perceptual test of runs, in the browser.")
@click.argument("methods", metavar="[[NAME=]RUN|FOLDER...]", nargs=-1)
@click.option(
    "--real", metavar="FOLDER", type=click.Path(path_type=Path),
    help="The real images, called as the others. [default: the targets of the runs' test set]",
)  # fmt: skip
@click.option(
    "--out", metavar="FOLDER", type=click.Path(path_type=Path), default=Path("study"), show_default=True,
    help="Folder of the study: its images and answers.",
)  # fmt: skip
@_setting("practice", click.IntRange(min=0), "N", "Trials with feedback, which do not count.")
@_setting("trials", click.IntRange(min=1), "N", "Trials without feedback.")
@_setting(
    "checks",
    click.IntRange(min=0),
    "N",
    "Trials beside these whose fake is noise; who misses them is left out.",
)
@_setting("seconds", click.FloatRange(0.05, 60.0), "S", "How long an image is shown.")
@_setting("showing", click.Choice(["in_turn", "together"]), None, "Left and then right, or both together.")
@_setting("pairing", click.Choice(["same", "different"]), None, "Real and fake image of the same key, or never.")
@_setting("size", click.IntRange(32, 4096), "N", "The longer side of an image on the page, in CSS pixels.")
@_setting("seed", click.IntRange(min=0), "N", "Seed of orders and sides.")
@click.option("--device", metavar="NAME", help="Where to translate: cpu, cuda, cuda:N, mps. [default: the best]")
@PORT
@HOST
@TOKEN
@OPEN
@click.option("--results", "shows_results", is_flag=True, help="Print what the study has found so far, and end.")
@click.option("--csv", "table", metavar="FILE", type=click.Path(path_type=Path), help="With --results: every trial.")
@click.option("--json", "as_json", is_flag=True, help="With --results: print JSON.")
def study(
    methods: tuple[str, ...], real: Path | None, out: Path, device: str | None, port: int, host: str,
    token: str | None, in_browser: bool, shows_results: bool, table: Path | None, as_json: bool, **given: Any,
) -> None:  # fmt: skip
    """Show people real and generated images in the browser, and count how often they take the fake for the real one.

    Each of RUN is a run folder, a model file or PLUGIN:MODEL, whose test set is translated once; or a FOLDER of
    finished images. The same command, or p2pkit study --out FOLDER alone, goes on with a study. Ctrl-C ends it, and no
    answer is lost. --results prints the share of fooled answers of each method.
    """
    settings = {name: given[name] for name in OF_STUDY if given[name] is not None}
    if shows_results:
        if methods or real or settings:
            raise click.UsageError("--results is of a study that is there; leave out what one is made of")
        _results(out, table, as_json)
        return
    if table or as_json:
        raise click.UsageError("--csv and --json are of --results; give that too")
    token = token_for(host, token)
    from p2pkit.utils.progress import print_line
    from p2pkit_web.server import opened, server
    from p2pkit_web.study.application import application

    found = _study(out, _named(methods), real, settings, device)
    app = application(found, token)
    listening = opened(host, port)
    address = address_of(listening.getsockname(), host, token)
    what = f"tests {', '.join(found.methods)} with {len(found.keys)} images"
    print_line(f"{address}{note_on(host)}\n  {what}; Ctrl-C ends it")
    if in_browser:
        click.launch(address)
    server(app).run(sockets=[listening])


def _study(
    out: Path, methods: Mapping[str, str], real: Path | None, settings: Mapping[str, Any], device: str | None
) -> Study:
    """The study in the folder, or a new one."""
    from p2pkit.errors import DataError
    from p2pkit.utils.progress import print_line
    from p2pkit_web.study.folder import ABOUT, Settings, read_study

    if not methods or (out / ABOUT).exists():
        found = read_study(out)
        was = {"methods": dict(found.methods), **{name: getattr(found.settings, name) for name in settings}}
        wanted = {"methods": dict(methods) or was["methods"], **settings}
        if differing := [name for name in wanted if wanted[name] != was[name]]:
            name = differing[0]
            raise DataError(
                f"{out}: the study there has {name} = {_text(was[name])}, not {_text(wanted[name])}; leave that out to "
                "go on with it, or give another --out"
            )
        print_line(f"{out}: going on with the study there")
        return found
    print_line("p2pkit study (loading PyTorch ...)")
    from p2pkit import load_model
    from p2pkit_web.study.making import make

    def load(named: str) -> Translator:
        return load_model(named, device)

    return make(out, methods, real, Settings(**settings), load)


def _text(value: Any) -> str:
    return ", ".join(f"{name}={path}" for name, path in value.items()) if isinstance(value, dict) else str(value)


def _named(given: tuple[str, ...]) -> dict[str, str]:
    """What each method is made of, by its name: the one given, or the last parts of the path that tell it apart."""
    named = dict[str, str]()
    for each in given:
        name, sign, path = each.partition("=")
        if not sign or Path(each).exists():
            name, path = _name_of(each), each
        if not name or not path:
            raise click.BadParameter(f"found {each!r}, expected NAME=RUN", param_hint="RUN")
        if name in named:
            raise click.BadParameter(f"two are called {name!r}; name them, as in {name}-2={path}", param_hint="RUN")
        named[name] = path
    return named


def _name_of(path: str) -> str:
    """The last part of a path, or of a run folder the last two: those of runs are called by the time."""
    parts = [part for part in Path(path).parts if part not in ("/", ".", "..", "runs", "model.safetensors")]
    count = 2 if (Path(path) / "recipe.toml").exists() or path.endswith("model.safetensors") else 1
    return "/".join(parts[-count:]).removesuffix(".safetensors") or path


def _results(out: Path, table: Path | None, as_json: bool) -> None:
    from p2pkit.cli.tables import print_table
    from p2pkit.utils.progress import print_line
    from p2pkit_web.study.results import results_of
    from p2pkit_web.study.tables import DIFFERENCES, METHODS, difference_rows, method_rows, notices

    found = results_of(out)
    if table is not None:
        found.write_csv(table)
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
        return
    print_table(method_rows(found), METHODS)
    if found.differences:
        click.echo()
        print_table(difference_rows(found), DIFFERENCES)
    click.echo()
    for notice in notices(found):
        print_line(notice)
    if table is not None:
        print_line(f"every trial: {table}")
