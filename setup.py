"""What pyproject.toml has no words for: in a wheel, the top-level folder of configurations lies within the package."""

from setuptools import find_packages, setup

setup(
    # The top-level `callbacks` re-exports for a clone; nothing that is installed needs it.
    packages=[*find_packages(include=["dmlik_pl*"]), "dmlik_pl.configs"],
    package_dir={"dmlik_pl.configs": "configs"},
)
