import re
from pathlib import Path

import chassis

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_has_a_line_for_every_module() -> None:
    modules = {path.stem for path in Path(chassis.__path__[0]).glob("*.py")} - {"__init__"}

    described = re.findall(r"^\| `(\w+)` \|", README.read_text(), re.MULTILINE)

    assert sorted(described) == sorted(modules)
