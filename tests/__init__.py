"""The tests, which read the package as a project has it: from template/.couplet, installed nowhere."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "template/.couplet"))
