"""The small models that come with the package."""

from pathlib import Path

__all__ = ["ASSETS", "locate"]

ASSETS = Path(__file__).parent / "assets"


def locate(name: str | Path) -> str:
    """A model's folder: as given, or the shipped one of that name; any other text is left for a hub to know.

    Args:
        name: A folder, the name of a folder in ``dmlik_pl/assets`` (e.g. ``shapes-sdxl``), or a hub id.
    """
    if not Path(name).exists() and (ASSETS / name).is_dir():
        return str(ASSETS / name)
    return str(name)
