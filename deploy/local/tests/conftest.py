"""The folder of the scripts as a place to import from, and what the tests of the stack share."""

import sys
from pathlib import Path

# At the end: an installed package of the same name wins.
sys.path.append(str(Path(__file__).resolve().parents[1]))
