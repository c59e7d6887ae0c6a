"""Lets a wheel carry the configs and lists that the code reads from the repository."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
CARRIED = ["configs/**/*.yaml", "data/*.yaml"]


class BuildWithConfigs(build_py):
    """Copies them to `tagger/carried`, which `tagger.files` looks for; not into an editable one."""

    def run(self) -> None:
        """Build the package, then add the files."""
        super().run()
        if self.editable_mode:
            return
        for path in (found for pattern in CARRIED for found in ROOT.glob(pattern)):
            target = Path(self.build_lib, "tagger", "carried", path.relative_to(ROOT))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


setup(cmdclass={"build_py": BuildWithConfigs})
