"""Writing files so that they appear whole or not at all."""

import contextlib
import ctypes
import errno
import json
import math
import numbers
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

_HELD: set[tuple[int, Path]] = set()  # threads of this process, and the folders that each has locked
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux' renameat2(2)
# What fsync(2) says where there is nothing to bring to a disk: of some file systems, and of Windows.
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF)


class BusyFolderError(OSError):
    """A folder that another process or thread is writing; the text says what to do."""


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON, a NumPy number as a number; NaN and infinities become null. A file is replaced whole."""
    file = Path(path)
    text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    made = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        made.write_text(text + "\n", encoding="utf-8")
        made.replace(file)
    finally:
        made.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """Returns a whole number of numpy as a number, which the names of series may be; anything else as text."""
    return int(value) if isinstance(value, numbers.Integral) else str(value)


def _finite(content: Any) -> Any:
    """Returns `content` in plain types, with NaN and infinities as null."""
    content = content.item() if isinstance(content, np.generic) else content
    if isinstance(content, dict):
        return {str(k): _finite(v) for k, v in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(v) for v in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def check_folder(folder: str | Path) -> None:
    """Refuses a name that can be no folder to write into, before anything is computed for it.

    Raises:
        FileExistsError: If it is a file, or lies below one.
        OSError: If nothing can be written there.
    """
    target = Path(folder).resolve()
    there = next(path for path in (target, *target.parents) if path.exists())
    if not there.is_dir():
        below = "" if there == target else f" lies below {there}, which"
        raise FileExistsError(f"{folder}{below} is a file; give the name of a folder")
    try:
        with tempfile.TemporaryFile(dir=there):  # permissions alone do not tell: a disk may be full or read-only
            pass
    except OSError as error:
        raise _say_unwritable(folder) from error


def check_file(file: str | Path, endings: Sequence[str]) -> None:
    """Refuses a name that can be no file to write, before anything is computed for it.

    Args:
        file: The file; it need not exist.
        endings: What it may end in: (".csv", ".parquet").

    Raises:
        ValueError: If it has another ending, or is a folder.
        OSError: If its folder is a file, or nothing can be written there.
    """
    path = Path(file)
    if path.suffix not in endings or path.is_dir():
        what = "it is a folder; " if path.is_dir() else ""
        raise ValueError(f"cannot write {file}: {what}give a name that ends in {' or '.join(endings)}")
    check_folder(path.parent)


def _say_unwritable(folder: str | Path) -> OSError:
    return PermissionError(f"{folder} cannot be written; choose another folder, or mend its permissions")


@contextlib.contextmanager
def lock_folder(folder: str | Path) -> Iterator[None]:
    """Holds a folder, which need not exist yet, against every other process and thread; it ends with the process.

    A thread that holds it already may hold it again.

    Raises:
        BusyFolderError: If another process or thread holds it.
        OSError: If it is a file or lies below one, or nothing can be written there.
    """
    check_folder(folder)
    target = Path(folder).resolve()
    held = (threading.get_ident(), target)
    if held in _HELD:
        yield
        return
    lock = FileLock(_lock_file(target), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        if not Path(lock.lock_file).exists():  # the library takes a refusal of the system for a held lock
            raise _say_unwritable(folder) from error
        raise BusyFolderError(
            f"another process or thread is writing {folder}; wait until it has ended, or choose another folder"
        ) from error
    except OSError as error:
        raise _say_unwritable(folder) from error
    _HELD.add(held)
    try:
        yield
    finally:
        _HELD.discard(held)
        # Gone while it is still held: whoever waits for it sees that its file has no name any more, and tries again.
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def _lock_file(target: Path) -> Path:
    """Returns the file beside `target` by which every process knows that it is held.

    Where nothing can be written beside it, it is never exchanged either, so the file may lie within.
    """
    with contextlib.suppress(PermissionError):
        target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not os.access(target.parent, os.W_OK):
        return target / ".lock"
    return target.with_name(f".{target.name}.lock")


def staging_folder(folder: str | Path) -> Path:
    """Returns the folder beside `folder` in which its next content is put together."""
    target = Path(folder).resolve()
    return target.with_name(f".{target.name}.saving")


@contextlib.contextmanager
def replace_folder(folder: str | Path, owned: Sequence[str]) -> Iterator[Path]:
    """Gives an empty folder to write into, and puts it in the place of `folder` when the block ends without an error.

    Until then the old content stays whole, whatever happens. Of the old content, what matches `owned` goes; the rest
    (checkpoints, a user's notes) is kept.

    Args:
        folder: The folder to replace; it need not exist.
        owned: Patterns of file and folder names that the new content replaces, written or not.

    Raises:
        BusyFolderError: If another process writes the same folder.
        FileExistsError: If `folder` is a file, or the working folder or one above it.
    """
    check_folder(folder)
    target = Path(folder).resolve()
    if target == Path.cwd() or target in Path.cwd().parents:
        raise FileExistsError(
            f"{folder} is the working folder or lies above it; give a folder of its own to save into"
        )
    with lock_folder(target):
        staging = staging_folder(target)
        if staging.exists():  # a killed writer left it
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
        try:
            yield staging
            if target.is_dir():
                _keep(target, staging, owned)
            _sync(staging)
            _swap(staging, target)
        finally:
            if staging.exists():
                shutil.rmtree(staging)


def _keep(old: Path, new: Path, owned: Sequence[str]) -> None:
    """Links what is not `owned` from the old folder into the new one."""
    for entry in old.iterdir():
        if any(fnmatch(entry.name, pattern) for pattern in owned) or (new / entry.name).exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, copy_function=_link, symlinks=True)
        else:
            _link(str(entry), str(new / entry.name))


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target


def _sync(folder: Path) -> None:
    """Brings the files of a folder to the disk, so that a full one is told before the old content goes."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                try:
                    os.fsync(file.fileno())
                except OSError as error:
                    if error.errno not in _NO_SYNC:
                        raise


def _swap(made: Path, target: Path) -> None:
    """Puts `made` at `target`; what was there goes to the place of `made`, at once where the system can."""
    if not target.exists():
        made.rename(target)
        return
    if _exchange(made, target):
        return
    aside = target.with_name(f".{target.name}.before")
    if aside.exists():
        shutil.rmtree(aside)
    target.rename(aside)
    try:
        made.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside)


def _exchange(left: Path, right: Path) -> bool:
    """Exchanges two folders in one step; False where the system has no such call."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    call = getattr(libc, "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(right))


@contextlib.contextmanager
def telling_damage(path: str | Path, way: str) -> Iterator[None]:
    """Turns whatever goes wrong while a file's content is read into one error that names the file.

    Args:
        path: The file.
        way: How to mend it, the end of the sentence.

    Raises:
        OSError: If the block raises a ValueError, LookupError, TypeError or RecursionError.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise OSError(f"{path} is damaged ({type(error).__name__}: {error}); {way}") from error
