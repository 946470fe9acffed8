"""Components of plugins that do not fit their kind: refused by name before a run begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Call, distribution

IMPORTS = "import p2pkit\nfrom torch import nn\n"
NETWORK = """
class Odd(nn.Module):
    \"\"\"Odd.\"\"\"
    channels, resampling = 3, "bicubic"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, source):
        return source
"""
METHOD = """
class Odd:
    \"\"\"Odd.\"\"\"
    networks = ("generator", "discriminator")

    def __init__(self, generator: nn.Module, discriminator: nn.Module, losses: list) -> None:
        self.generator, self.discriminator = generator, discriminator
"""


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("generators", "Odd = lambda: 7", "int where a torch.nn.Module is expected"),
        ("generators", NETWORK.replace("Conv2d(3, 3, 1)", "Identity()"), "generator has nothing to train"),
        ("generators", NETWORK.replace("source\n", "(source, 3)\n"), "0.4 gives a tuple where a tensor is expected"),
        ("encodings", "Odd = lambda: 7", "int where a torch.nn.Module is expected"),
        ("encodings", NETWORK.replace("channels,", "chanels,"), "channels is None, expected a number from 1 on"),
        ("encodings", NETWORK.replace("bicubic", "cubic"), "resampling is 'cubic', expected one of: bicubic, nearest"),
        ("encodings", NETWORK.replace("= 3", "= 4"), "p2pkit-odd 0.4 gives 3x16x16 where 4x16x16 is expected"),
        ("methods", METHOD.replace('("generator", "discriminator")', '("generator")'), "found 'generator', expected"),
        ("methods", METHOD.replace('"generator", ', ""), '"generator" among them'),
        ("methods", METHOD.replace('"discriminator"', '"generator"'), "expected a tuple of different names"),
        ("methods", METHOD.replace("tor\")", "ter\")"), "no such torch module; did you mean 'discriminator'?"),
    ],
)  # fmt: skip
def test_what_a_component_is_not_is_reported_before_a_run(
    kind: str, code: str, reason: str, p2pkit: Call, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = f'\n@p2pkit.hookimpl\ndef register_{kind}(register):\n    register("odd", Odd)\n'
    folder = distribution(tmp_path / "plugins", "p2pkit-odd", "0.4", {"odd": "plugin_odd"})
    (folder / "plugin_odd.py").write_text(IMPORTS + code + "\n" + offer)
    monkeypatch.setattr(sys, "path", list(sys.path))
    outcome = p2pkit("--plugins-dir", folder, "run", recipe, "--set", f"{kind.removesuffix('s')}.name=odd")
    assert outcome.code == 2 and reason in outcome.err, outcome.err
