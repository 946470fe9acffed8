"""An environment to install into, on top of the one that the tests run in; nothing is downloaded."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

SCRIPTS = ("p2pkit", "pip", "pytest", "mypy", "lint-imports")


class Environment:
    """A virtual environment that has what the running one has; what is installed into it stays in it."""

    def __init__(self, folder: Path) -> None:
        """Make it in ``folder``, which must not be there."""
        venv.create(folder, symlinks=os.name != "nt")
        paths = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
        self.packages, self.scripts = Path(paths["purelib"]), Path(paths["scripts"])
        # it inherits from the Python that the running environment is made of, not from that environment
        inherited = [path for path in sys.path if path.endswith("site-packages")]
        lines = [f"import site; site.addsitedir({path!r})\n" for path in inherited]
        (self.packages / "inherited.pth").write_text("".join(lines))
        for name in SCRIPTS:
            code = (Path(sysconfig.get_path("scripts")) / name).read_text()
            script = self.scripts / name
            script.write_text(f"#!{self.scripts / 'python'}\n{code.partition(chr(10))[2]}")
            script.chmod(0o755)

    def run(self, command: str, folder: Path) -> str:
        """What a line for the shell prints, in ``folder``; it must succeed."""
        variables = {
            **os.environ,
            "PATH": f"{self.scripts}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip reads 0 as: no isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        ended = subprocess.run(
            command, shell=True, cwd=folder, env=variables, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout
