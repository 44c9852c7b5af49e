"""Maps the top folders to import names: methods/ is runner.methods, and so on, so that nothing collides."""

from setuptools import find_packages, setup

FOLDERS = {"runner": "runner", "runner.methods": "methods", "runner.datasets": "datasets", "runner.conf": "conf"}

setup(
    package_dir=FOLDERS,
    packages=[
        *FOLDERS,
        *(f"{name}.{package}" for name, folder in FOLDERS.items() for package in find_packages(folder)),
    ],
    package_data={
        "runner.conf": ["*.yaml", "*/*.yaml", "*/*/*.yaml"],
        "runner": ["py.typed", "__init__.pyi"],
        "runner.report": ["assets/*", "templates/*"],
    },
)
