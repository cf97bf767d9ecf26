"""Makes the scripts importable."""

import sys
from pathlib import Path

# At the end, so that an installed package of the same name takes precedence.
sys.path.append(str(Path(__file__).resolve().parents[1]))
