"""Files, folders and source code by their content: what they are called and when they were written does not count."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import site
import sqlite3
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

import dmlik_pl

__all__ = ["file_digest", "folder_digest", "own_code_digest", "package_digest"]

_REMEMBERED = 2**20  # bytes; smaller files are read faster than they are looked up
_WAIT = 5.0  # seconds for another process that writes to the cache
_PACKAGE = Path(dmlik_pl.__file__).resolve().parent
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def file_digest(path: str | Path) -> str:
    """Digest of a file's content.

    Digests of large files are remembered between runs, under ``$XDG_CACHE_HOME/dmlik`` (``~/.cache/dmlik``), by path,
    size and times. The time of the last change of the inode, which no program can set back, is among them.

    Args:
        path: The file.

    Raises:
        OSError: If it cannot be read.
    """
    path = Path(path).resolve()
    status = path.stat()
    if status.st_size < _REMEMBERED:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    key = f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"
    digest = _recall(key)
    if digest is None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        _remember(key, digest)
    return digest


def folder_digest(path: str | Path) -> str:
    """Digest of the names and contents of all files below a folder, hidden ones left out.

    Args:
        path: The folder.

    Raises:
        OSError: If a file of it cannot be read.
    """
    path = Path(path)
    files = {str(file.relative_to(path)): file for file in _visible(path)}
    return _joined(f"{name}={file_digest(files[name])}" for name in sorted(files))


@cache
def package_digest(rooms: tuple[str, ...]) -> str:
    """Digest of this package's own source.

    Args:
        rooms: The subpackages that count.
    """
    files = sorted(path for room in rooms for path in (_PACKAGE / room).rglob("*.py"))
    return _joined(f"{path.relative_to(_PACKAGE)}={file_digest(path)}" for path in files)


def own_code_digest(texts: Iterable[str]) -> str:
    """Digest of source code outside this and installed packages that the classes of a configuration are made of.

    It covers the modules that the texts name, and whatever of the user's own these import, anywhere in their code.

    Args:
        texts: Values of a configuration; those that are import paths of something that is imported count.

    Returns:
        The digest; empty if there is no such code.
    """
    found: dict[str, Path] = {}
    waiting = [module for text in texts if _DOTTED.fullmatch(text) and (module := _module_of(text))]
    while waiting:
        module = waiting.pop()
        path = None if module in found else _own_source(module)
        if path is not None:
            found[module] = path
            waiting += _imports(module, path)
    return _joined(f"{module}={file_digest(found[module])}" for module in sorted(found)) if found else ""


def _visible(folder: Path) -> Iterator[Path]:
    """Regular files below a folder; links are followed, hidden entries are not."""
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in files:
            if not name.startswith(".") and (path := Path(where) / name).is_file():
                yield path


def _joined(parts: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(parts).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _module_of(text: str) -> str | None:
    """The module that an import path lies in, if it is imported."""
    while text not in sys.modules:
        text, dot, _ = text.rpartition(".")
        if not dot:
            return None
    return text


def _own_source(module: str) -> Path | None:
    """The source of a module that is neither built in, nor installed, nor of this package."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):  # a name imported from a module, or a broken package
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin).resolve()
    installed = any(path.is_relative_to(folder) for folder in _installed())
    return None if installed or path.is_relative_to(_PACKAGE) or not path.is_file() else path


@cache
def _installed() -> tuple[Path, ...]:
    """Folders of the standard library and of installed packages."""
    folders = {*site.getsitepackages(), site.getusersitepackages()}
    folders |= {path for name, path in sysconfig.get_paths().items() if name.endswith(("lib", "stdlib"))}
    return tuple(Path(folder).resolve() for folder in folders)


def _imports(module: str, path: Path) -> list[str]:
    """Modules that a source file may import, whatever they are."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # it could not have been imported; its bytes count anyway
        return []
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.rsplit(".", node.level - 1)[0] if package else ""
                base = f"{parent}.{base}".strip(".")
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    parents = [name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)]
    return [name for name in dict.fromkeys([*names, *parents]) if name]


def _cache_file() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dmlik" / "digests.sqlite"


def _recall(key: str) -> str | None:
    with suppress(sqlite3.Error, OSError, RuntimeError), closing(sqlite3.connect(_cache_file(), _WAIT)) as cached:
        row = cached.execute("SELECT digest FROM digests WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])
    return None


def _remember(key: str, digest: str) -> None:
    """Keep a digest; where no cache can be written, it is computed again."""
    with suppress(sqlite3.Error, OSError, RuntimeError):
        _cache_file().parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(_cache_file(), _WAIT)) as cached, cached:
            cached.execute("CREATE TABLE IF NOT EXISTS digests (key TEXT PRIMARY KEY, digest TEXT)")
            cached.execute("INSERT OR REPLACE INTO digests VALUES (?, ?)", (key, digest))
