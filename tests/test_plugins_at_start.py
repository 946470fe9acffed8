"""Plugins that are built for another p2pkit, print or quit: named, and harmless to all else."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from p2pkit.components.host import configure, manager
from p2pkit.errors import DataError, PluginError, UnknownComponent
from p2pkit.images.reading import read_image
from tests.conftest import Call, distribution

Write = Callable[..., Path]
HOOKED = "import p2pkit\n\n@p2pkit.hookimpl\ndef {hook}({argument}):\n    {body}\n"


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes a plugin of one module, ``odd`` of the distribution p2pkit-odd 0.4; the folder for --plugins-dir."""
    before, folder = list(sys.path), tmp_path / "plugins"

    def plugin(code: str, requires: str = "p2pkit>=0.1", name: str = "odd") -> Path:
        distribution(folder, f"p2pkit-{name}", "0.4", {name: f"plugin_{name}"}, [requires])
        (folder / f"plugin_{name}.py").write_text(code)
        return folder

    yield plugin
    sys.path[:] = before
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]
    configure()


def listed(p2pkit: Call, folder: Path, name: str = "odd") -> dict[str, Any]:
    """What ``p2pkit plugins --json`` says of a plugin."""
    outcome = p2pkit("--plugins-dir", folder, "plugins", "--json")
    assert outcome.code == 0, outcome.err
    plugins = {plugin["name"]: plugin for plugin in outcome.json}
    assert plugins["builtin"]["problem"] is None
    return plugins[name]  # type: ignore[no-any-return]


def apart(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, whose standard output is a file descriptor."""
    command = [sys.executable, "-m", "p2pkit", "--plugins-dir", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("requires", ["p2pkit>=99", "P2Pkit[export] >=99,<100", "p2pkit<0.0.1", "p2pkit==99.*"])
def test_a_plugin_for_another_version_says_which(requires: str, p2pkit: Call, write: Write) -> None:
    folder = write("raise AssertionError('it must not be imported')", requires)
    odd = listed(p2pkit, folder)
    assert (odd["wants"] in odd["problem"] and "99" in odd["problem"]) or "0.0.1" in odd["problem"]
    warned = p2pkit("--plugins-dir", folder, "schema")
    assert warned.code == 0 and "odd (p2pkit-odd 0.4) is left out: it is built for p2pkit" in warned.err
    assert "and this is 0.1.0" in warned.err and "pip install --upgrade p2pkit p2pkit-odd" in warned.err
    assert "--no-plugin odd" in warned.err and "pip uninstall p2pkit-odd" in warned.err


@pytest.mark.parametrize(
    "requires",
    [
        "p2pkit",
        "p2pkit>=0.1",
        "p2pkit>=99; extra == 'new'",
        "p2pkit>=99; python_version < '3'",
        "p2pkit-hd>=99",
        "p2pkit ~~ 9",
    ],
)
def test_other_requirements_keep_no_plugin_out(requires: str, p2pkit: Call, write: Write) -> None:
    odd = listed(p2pkit, write("import p2pkit", requires))
    assert odd["problem"] is None


@pytest.mark.parametrize(
    "code",
    [
        HOOKED.format(hook="register_telepathy", argument="register", body="pass"),
        HOOKED.format(hook="register_losses", argument="register, also_new", body="pass"),
        "from p2pkit.contracts import SomethingOfTomorrow",
        "import p2pkit.tomorrow",
    ],
)
def test_what_only_a_later_version_has_is_told_as_such(code: str, p2pkit: Call, write: Write) -> None:
    problem = listed(p2pkit, write(code))["problem"]
    assert "another version than p2pkit 0.1.0: pip install --upgrade p2pkit p2pkit-odd" in problem


def test_a_library_that_is_missing_is_asked_for_with_the_distribution(p2pkit: Call, write: Write) -> None:
    assert "pip install p2pkit-odd" in listed(p2pkit, write("import a_library_that_nobody_has"))["problem"]


PRINTING = {
    "by Python": "print('hello'); print('there')",
    "by the shell": "import os; os.system('echo hello; echo there')",
    "past Python": "import os; os.write(1, b'hello\\nthere\\n')",
    "from the real stream": "import sys; sys.__stdout__.write('hello\\nthere\\n')",
    "in a hook": HOOKED.format(hook="register_commands", argument="cli", body="print('hello'); print('there')"),
}


@pytest.mark.parametrize("code", PRINTING.values(), ids=PRINTING.keys())
def test_what_a_plugin_prints_spoils_no_result(code: str, write: Write) -> None:
    ended = apart(write(code), "plugins", "--json")
    (odd,) = [plugin for plugin in json.loads(ended.stdout) if plugin["name"] == "odd"]
    assert odd["problem"] is None and ended.stderr.split() == ["hello", "there"]


def test_what_a_hook_of_components_prints_spoils_no_listing(p2pkit: Call, write: Write) -> None:
    printing = HOOKED.format(hook="register_metrics", argument="register", body="print('hello')")
    outcome = p2pkit("--plugins-dir", write(printing), "components", "metrics", "--json")
    assert "mae" in [component["name"] for component in outcome.json] and outcome.said == ["hello"]


@pytest.mark.parametrize("entry", ["plugin_odd", "plugin_odd.hooks", "plugin_odd.hooks:offer"])
def test_recipes_are_those_of_the_package_wherever_the_hooks_are_in_it(
    entry: str, p2pkit: Call, write: Write, recipe: Path
) -> None:
    folder = write("")
    (folder / "plugin_odd.py").unlink()
    distribution(folder, "p2pkit-odd", "0.5", {"odd": entry})
    shutil.rmtree(folder / "p2pkit_odd-0.4.dist-info")
    (folder / "plugin_odd/recipes").mkdir(parents=True)
    (folder / "plugin_odd/__init__.py").touch()
    (folder / "plugin_odd/hooks.py").write_text("class Offer:\n    pass\n\noffer = Offer()\n")
    (folder / "plugin_odd/recipes/small.toml").write_text(recipe.read_text())
    outcome = p2pkit("--plugins-dir", folder, "check", "odd:small")
    assert outcome.code == 0, outcome.err


def test_a_logger_that_a_plugin_made_works_later_on(write: Write) -> None:
    body = "cli.command('tell')(lambda: logging.warning('still here'))"
    code = "import logging\nimport sys\nlogging.basicConfig(stream=sys.stdout)\n"
    ended = apart(write(code + HOOKED.format(hook="register_commands", argument="cli", body=body)), "tell")
    assert (ended.returncode, ended.stderr) == (0, "WARNING:root:still here\n"), ended.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import io, sys; sys.stdout = io.StringIO()",
        "import sys; sys.stdout = None",
        "import sys; sys.stdout = 5",
    ],
)
def test_results_go_on_when_a_plugin_takes_the_standard_output(code: str, write: Write) -> None:
    outcome = apart(write(code), "plugins", "--json")
    assert outcome.returncode == 0, outcome.stderr
    assert "odd" in [plugin["name"] for plugin in json.loads(outcome.stdout)] and not outcome.stderr


@pytest.mark.parametrize("offer", ["register(5, dict)", "register('', dict)"])
def test_a_name_that_no_recipe_can_write_is_the_plugins_problem(offer: str, p2pkit: Call, write: Write) -> None:
    folder = write(HOOKED.format(hook="register_losses", argument="register", body=offer))
    outcome = p2pkit("--plugins-dir", folder, "components", "losses")
    assert outcome.code == 0 and "l1" in outcome.out
    assert (
        "odd (p2pkit-odd 0.4)" in outcome.err
        and "expected a" in outcome.err
        and "report it to the authors" in outcome.err
    )


def test_a_closed_standard_output_stops_no_plugin(write: Write) -> None:
    command = shlex.join(
        [sys.executable, "-m", "p2pkit", "--plugins-dir", str(write(PRINTING["by Python"])), "plugins"]
    )
    ended = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr and "left out" not in ended.stderr


FAIL = "cli.command('fail')(lambda: [__import__('sys').__stdout__.write('some'), 1 / 0])"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("command", "code"), [("components", 2), ("fail", 1)])
def test_a_full_standard_output_is_no_plugins_fault(command: str, code: int, unbuffered: str, write: Write) -> None:
    folder = write(HOOKED.format(hook="register_commands", argument="cli", body=FAIL))
    call = shlex.join([sys.executable, "-m", "p2pkit", "--plugins-dir", str(folder), command])
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run(f"{call} >/dev/full", shell=True, env=env, capture_output=True, text=True, check=False)
    full = "No space left on device" in ended.stderr
    assert "builtin" not in ended.stderr and "Exception ignored" not in ended.stderr
    assert (full and ended.returncode == 2) or (code, ended.returncode, unbuffered) == (1, 1, ""), ended.stderr


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import warnings\nwarnings.simplefilter('error')\nwarnings.warn('old')", "UserWarning: old"),
        ("raise RuntimeError('one\\ntwo\\x1b[2J')", "RuntimeError: one two\\x1b[2J"),
    ],
)
def test_whatever_a_plugin_raises_is_its_own_problem(code: str, reason: str, write: Write) -> None:
    write("import p2pkit", name="good")
    ended = apart(write(code), "plugins", "--json")
    assert ended.returncode == 0, ended.stderr
    plugins = {plugin["name"]: plugin["problem"] for plugin in json.loads(ended.stdout)}
    assert plugins["odd"].startswith(reason) and plugins["good"] is None and plugins["builtin"] is None


def test_ctrl_c_while_a_plugin_loads_ends_the_command(write: Write) -> None:
    ended = apart(write("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"), "plugins")
    assert ended.returncode == 130 and ended.stdout == ""


LATER = """
import time

import p2pkit
from torch.optim import SGD

called = []


@p2pkit.hookimpl
def register_optimizers(register):
    register("early", SGD)
    register("lion", SGD)
    {first}

    def rest():
        called.append("rest")
        register("late", SGD)
        {rest}

    return rest
"""


def later(first: str = "", rest: str = "") -> str:
    """A plugin that offers some optimizers at once, and then does ``first``, and one later, and then does ``rest``."""
    return LATER.format(first=first, rest=rest)


def test_what_takes_long_to_find_is_offered_when_it_is_asked_for(write: Write) -> None:
    folder = write(later())
    configure(plugins_dir=folder)
    registry, called = manager().registry("optimizers"), sys.modules["plugin_odd"].called
    assert called == [] and registry.get("late").distribution == "p2pkit-odd" and called == ["rest"]
    configure(plugins_dir=folder)
    assert {"early", "late", "adam", "sgd"} <= set(manager().registry("optimizers").names())
    configure(plugins_dir=folder)
    with pytest.raises(UnknownComponent, match="did you mean 'late'"):
        manager().registry("optimizers").get("latte")
    assert called == ["rest"] * 3


def test_a_name_that_another_plugin_offers_later_belongs_to_neither(write: Write) -> None:
    configure(plugins_dir=write(later()))
    with pytest.raises(PluginError, match="'lion' is offered by") as caught:
        manager().registry("optimizers").get("lion")
    assert "p2pkit 0.1.0" in str(caught.value) and "p2pkit-odd 0.4" in str(caught.value)


def test_another_thread_waits_for_what_is_being_offered(write: Write) -> None:
    configure(plugins_dir=write(later(first="time.sleep(0.3)", rest="time.sleep(0.3)")))
    names = ["late", "sgd", "late", "early"]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda name: manager().registry("optimizers").get(name), names))
    assert [each.name for each in found] == names


INTERRUPTED = """
import p2pkit
from torch.optim import SGD

interruptions = iter([True, False, True, False])


def interrupted():
    if next(interruptions):
        raise KeyboardInterrupt


@p2pkit.hookimpl
def register_optimizers(register):
    register("early", SGD)
    interrupted()

    def rest():
        register("late", SGD)
        interrupted()

    return rest
"""


def test_what_is_interrupted_is_offered_when_it_is_asked_for_again(write: Write) -> None:
    configure(plugins_dir=write(INTERRUPTED))
    with pytest.raises(KeyboardInterrupt):
        manager().registry("optimizers")
    registry = manager().registry("optimizers")
    with pytest.raises(KeyboardInterrupt):
        registry.get("sgd")
    assert registry.get("late").name == "late" and registry.get("sgd").name == "sgd" and registry.conflicts() == []


FORMATS = """
import p2pkit


@p2pkit.hookimpl
def register_image_formats(register):
    def rest():
        raise OSError("no library today")

    return rest
"""


def test_image_formats_that_could_not_be_offered_are_told_where_a_file_has_none(write: Write, tmp_path: Path) -> None:
    (tmp_path / "picture.odd").write_bytes(b"odd")
    configure(plugins_dir=write(FORMATS))
    with pytest.raises(DataError, match="no library today"):
        read_image(tmp_path / "picture.odd")


def test_a_plugin_that_fails_to_offer_the_rest_is_named_and_keeps_what_it_has_offered(write: Write) -> None:
    configure(plugins_dir=write(later(rest="raise OSError('no library today')")))
    registry = manager().registry("optimizers")
    with pytest.raises(UnknownComponent, match=r"odd .*no library today"):
        registry.get("latter")
    assert registry.get("early").distribution == registry.get("late").distribution == "p2pkit-odd"
    assert registry.get("sgd").distribution == "p2pkit"
