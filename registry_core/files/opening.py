"""Opens files only in folders where other users of the machine cannot replace them.

This module decides which folders and files may be used; `atomic` writes files, `locks` locks them.

A folder may be used when no other user can replace a file in it: it and every folder above it belong to root, to this
process's user or to the owner of the folder, and others may not write to them. In a sticky folder (`/tmp`) others may
make files, but not replace files they do not own: such a folder may be one of those above, and files in it are checked
one by one; a state directory needs a folder of its own (`own_folder`).

A file in it is opened relative to a handle of the folder, without following a link and without waiting for the other
end of a pipe. It must be regular, have one name, and belong to this user, to root or to the owner of the folder.
On Windows, which has access lists in place of owners and modes, only the kind of file is checked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Optional, Union

from registry_core.errors import StoreError, reason_of

__all__ = [
    "Folder",
    "check_kind",
    "open_regular",
    "own_folder",
    "own_place",
    "read_file",
    "read_regular",
    "refuse_others",
]

_HAS_OWNERS = hasattr(os, "geteuid")
_ROOT = 0
_MOST_LINKS = 40  # the limit of Linux
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_AS_IT_IS = _WITHOUT_WAITING | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NOCTTY", 0)
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)
_OWN_FOLDER = "use a folder that only you can write to (mkdir -m 700)"


class Folder:
    """A handle of a folder in which no other user can replace a file; a context manager. `path` is its real path.

    Raises StoreError, with a remedy, for a folder that may not be used, and OSError. `make`: create the folder and
    the missing folders above it, with access for their owner only.
    """

    def __init__(self, path: Union[str, Path], *, make: bool = False) -> None:
        way = _Way(os.path.join(os.getcwd(), path), make=make)  # noqa: PTH118, PTH109 - `..` behind a link stays
        self.path = Path(way.at)
        self.status = way.status
        self._handle: Optional[int] = None
        if not _HAS_OWNERS:
            return
        way.refuse_others(_trusted(self.status.st_uid))
        flags = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._handle = os.open(self.path, flags)
        opened = os.fstat(self._handle)
        if (opened.st_dev, opened.st_ino) != (self.status.st_dev, self.status.st_ino):
            self.close()
            raise StoreError(str(self.path), "was replaced while it was being opened")

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the handle. May be called twice."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def look(self, name: str) -> Optional[os.stat_result]:
        """The status of a file; None when it does not exist. Raises as `open`."""
        found = self._status(name)
        if found is not None:
            self._refuse(name, found)
        return found

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A descriptor of the file `name`. Raises StoreError for one that must not be opened, and OSError."""
        self.look(name)  # opening a device can have side effects
        target, at = self._at(name)
        handle = os.open(target, flags | _AS_IT_IS, mode, **at)
        try:
            self._refuse(name, os.fstat(handle))
        except BaseException:
            os.close(handle)
            raise
        return handle

    def read(self, name: str, most_bytes: int) -> bytes:
        """The first `most_bytes` of a file. Raises StoreError, OSError."""
        with os.fdopen(self.open(name, os.O_RDONLY), "rb") as file:
            return file.read(most_bytes)

    def unlink(self, name: str) -> None:
        """Remove a name, if it exists. Raises OSError."""
        target, at = self._at(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target, **at)

    def rename(self, name: str, new: str) -> None:
        """Rename a file within the folder, replacing the file of the new name. Raises OSError."""
        source, at = self._at(name)
        target, _at = self._at(new)
        os.replace(source, target, **({} if not at else {"src_dir_fd": at["dir_fd"], "dst_dir_fd": at["dir_fd"]}))  # noqa: PTH105 - the same

    def link_to(self, name: str) -> Optional[str]:
        """The target of the symbolic link `name`; None for no link. Raises StoreError for a link of another user."""
        found = self._status(name)
        if found is None or not stat.S_ISLNK(found.st_mode):
            return None
        if _HAS_OWNERS and found.st_uid not in _trusted(self.status.st_uid):
            raise StoreError(str(self.path / name), f"is a symbolic link of {_user(found.st_uid)}; remove it")
        target, at = self._at(name)
        return os.readlink(target, **at)

    def make_link(self, name: str, target: str) -> None:
        """Make the symbolic link `name`. Raises OSError."""
        where, at = self._at(name)
        os.symlink(target, where, **at)  # noqa: PTH211 - the same

    def sync(self) -> None:
        """Flush the folder's list of names to the disk. Raises OSError."""
        if os.name == "nt":  # Windows cannot open a folder
            return
        with self.opened() as handle:
            os.fsync(handle)

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of the folder itself that can be flushed and locked. Raises OSError."""
        handle = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._handle)
        try:
            yield handle
        finally:
            os.close(handle)

    def refuse_foreign(self) -> None:
        """Raises StoreError unless the folder belongs to this user or to root."""
        if _HAS_OWNERS and self.status.st_uid not in _trusted():
            user, own = _user(self.status.st_uid), _user(os.geteuid())
            rule = f"belongs to {user}, and this process runs as {own}; run it as that user, or {_OWN_FOLDER}"
            raise StoreError(str(self.path), rule)

    def is_shared(self) -> bool:
        """Whether it is a sticky folder: other users may make files in it, but not replace ours."""
        return _HAS_OWNERS and _others_may_write(self.status)

    def hold(self, name: str) -> None:
        """Make an empty file of this name unless it exists, so that no other user can make it. Raises as `open`."""
        if self.look(name) is None:
            os.close(self.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))

    def _refuse(self, name: str, found: os.stat_result) -> None:
        where = str(self.path / name)
        _refuse_kind(where, found)
        if not _HAS_OWNERS:
            return
        if found.st_uid not in _trusted(self.status.st_uid):
            rule = f"belongs to {_user(found.st_uid)}; run as that user, or remove the file if it should not be there"
            raise StoreError(where, rule)
        if found.st_nlink > 1:
            raise StoreError(
                where, f"has {found.st_nlink} hard links, so it can be changed under another name; copy it"
            )
        if _others_may_write(found):
            raise StoreError(where, f"{_open_to_others(found)}; check its content, then run chmod go-w on it")

    def _status(self, name: str) -> Optional[os.stat_result]:
        target, at = self._at(name)
        try:
            return os.stat(target, follow_symlinks=False, **at)  # noqa: PTH116 - the same
        except FileNotFoundError:
            return None

    def _at(self, name: str) -> tuple[str, dict[str, Any]]:
        """The arguments that name a file of this folder in a system call: relative to the handle where there is one."""
        if self._handle is None:
            return str(self.path / name), {}
        return name, {"dir_fd": self._handle}


def own_folder(path: Path, use: str) -> None:
    """Check that `path` may be used as `use` ("a state directory"): only its owner, this user or root, can write to it.

    Missing folders are made, with access for their owner only. Raises StoreError.
    """
    try:
        with Folder(path, make=True) as folder:
            folder.refuse_foreign()
            if folder.is_shared():
                raise StoreError(str(path), f"{_open_to_others(folder.status)}; {_OWN_FOLDER}, or run chmod go-w on it")
    except OSError as error:
        raise StoreError(str(path), f"cannot be used as {use}: {reason_of(error)}") from error


def own_place(path: Path, use: str, *, own: bool = True) -> Path:
    """The real path of a file to write, in a folder of this user or root, which is made if missing. Raises StoreError.

    A symbolic link of this user or root is followed. An existing file must be one that may be opened. `own` False:
    root works on the folder of a service, which another user owns.
    """
    try:
        for _link in range(_MOST_LINKS):
            with Folder(path.parent, make=True) as folder:
                target = folder.link_to(path.name)
                if target is None:
                    if own:
                        folder.refuse_foreign()
                    folder.look(path.name)
                    return folder.path / path.name
                path = folder.path / target
    except OSError as error:
        raise StoreError(str(path), f"cannot be used as {use}: {reason_of(error)}") from error
    raise StoreError(str(path), f"is a chain of more than {_MOST_LINKS} links")


def read_file(path: Path, most_bytes: int) -> bytes:
    """The first `most_bytes` of a file in a checked folder. Raises StoreError, OSError."""
    with Folder(path.parent) as folder:
        return folder.read(path.name, most_bytes)


def open_regular(path: Path, *, follow: bool = True) -> int:
    """A descriptor for reading a regular file of any owner. Never waits for a pipe. Raises StoreError, OSError."""
    check_kind(path, follow=follow)
    handle = os.open(path, os.O_RDONLY | (_WITHOUT_WAITING if follow else _AS_IT_IS))
    try:
        _refuse_kind(str(path), os.fstat(handle))
    except BaseException:
        os.close(handle)
        raise
    return handle


def read_regular(path: Path, most_bytes: int = -1, *, follow: bool = True) -> bytes:
    """The first `most_bytes` (-1: all) of a regular file of any owner. Raises StoreError, OSError."""
    with os.fdopen(open_regular(path, follow=follow), "rb") as file:
        return file.read(most_bytes)


def check_kind(path: Path, *, follow: bool = True) -> None:
    """Raises StoreError for anything but a regular file, FileNotFoundError when nothing is there."""
    _refuse_kind(str(path), os.stat(path, follow_symlinks=follow))  # noqa: PTH116 - pathlib has no such argument on 3.9


def refuse_others(path: Path, handle: int) -> None:
    """Raises StoreError when a user other than this one and root can change the open file or its folder."""
    if not _HAS_OWNERS:
        return
    found, where = os.fstat(handle), str(path)
    if found.st_uid not in _trusted():
        raise StoreError(where, f"belongs to {_user(found.st_uid)}, who can change it; chown it, or use another file")
    if _others_may_write(found):
        raise StoreError(where, f"{_open_to_others(found)}; check its content, then run chmod go-w on it")
    Folder(Path(os.path.realpath(path)).parent).close()


class _Way:
    """The path from / to a folder: every folder and link on the way, and the real path at its end."""

    def __init__(self, path: str, *, make: bool) -> None:
        self.at = Path(path).anchor
        self.status = os.stat(self.at)  # noqa: PTH116 - beside lstat
        self._passed = [(self.at, self.status)]
        self._names = deque(Path(path).parts[1:])
        self._links = 0
        while self._names:
            self._step(self._names.popleft(), make)

    def _step(self, name: str, make: bool) -> None:
        if name == "..":
            self._enter(os.path.dirname(self.at))  # noqa: PTH120 - `at` is a real path
            return
        where = os.path.join(self.at, name)  # noqa: PTH118 - text is enough
        try:
            found = os.lstat(where)
        except FileNotFoundError:
            if not make:
                raise
            if _HAS_OWNERS:
                self.refuse_others(_trusted())  # never make a folder in one of another user
            with contextlib.suppress(FileExistsError):  # another process made it meanwhile
                os.mkdir(where, 0o700)  # noqa: PTH102 - the same
            found = os.lstat(where)
        if stat.S_ISLNK(found.st_mode):
            self._follow(where, found)
        elif stat.S_ISDIR(found.st_mode):
            self._enter(where)
        else:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), where)

    def _enter(self, where: str) -> None:
        self.at, self.status = where, os.lstat(where)
        self._passed.append((where, self.status))

    def _follow(self, where: str, found: os.stat_result) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), where)
        self._passed.append((where, found))
        target = Path(os.readlink(where))  # noqa: PTH115 - the same
        if target.is_absolute():
            self._enter(target.anchor)
        self._names.extendleft(reversed(target.parts[1:] if target.is_absolute() else target.parts))

    def refuse_others(self, trusted: frozenset[int]) -> None:
        """Raises StoreError for a folder or link that a user outside `trusted` could replace."""
        for where, found in self._passed:
            if found.st_uid not in trusted:
                what = "is a symbolic link" if stat.S_ISLNK(found.st_mode) else "is a folder"
                raise StoreError(where, f"{what} of {_user(found.st_uid)}, who can replace it; {_OWN_FOLDER}")
            if not stat.S_ISDIR(found.st_mode) or found.st_mode & stat.S_ISVTX:
                continue
            if _others_may_write(found) and not os.statvfs(where).f_flag & os.ST_RDONLY:  # a volume of a container
                raise StoreError(where, f"{_open_to_others(found)}; {_OWN_FOLDER}, or run chmod go-w on it")


def _refuse_kind(where: str, found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode):
        return
    kind = next((name for holds, name in _KINDS if holds(found.st_mode)), "a special file")
    raise StoreError(where, f"is {kind}, not a regular file")


def _trusted(owner: int = _ROOT) -> frozenset[int]:
    """The users whose files may be used: root, this process's user and `owner`."""
    return frozenset((_ROOT, os.geteuid(), owner, *_unknown_root()))


@cache
def _unknown_root() -> tuple[int, ...]:
    """In a user namespace that root is not mapped into, files of root are shown as those of the overflow user (65534).

    So are the files of every other user that is not mapped. The overflow user is trusted only if / is shown as its own:
    not in a container, whose own files belong to a mapped user.
    """
    try:
        ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_bytes().splitlines()]
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_bytes())
    except (OSError, ValueError):  # not Linux, or no /proc
        return ()
    is_mapped = any(outside <= _ROOT < outside + count for _inside, outside, count in ranges)
    return (overflow,) if not is_mapped and Path("/").stat().st_uid == overflow else ()


def _others_may_write(found: os.stat_result) -> bool:
    return bool(found.st_mode & stat.S_IWOTH) or bool(
        found.st_mode & stat.S_IWGRP and not _is_private(found.st_gid, found.st_uid)
    )


def _is_private(gid: int, owner: int) -> bool:
    """Whether a group holds only this user, the owner and root, like the group that Debian makes for each user.

    A group without a name (as in a container) has no listed members.
    """
    import grp  # not on Windows; needed only where a group may write
    import pwd

    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return True
    own = {"root"}
    for uid in (os.geteuid(), owner):
        with contextlib.suppress(KeyError):  # a container's user without a name
            own.add(pwd.getpwuid(uid).pw_name)
    if group.gr_name not in own and gid in (os.getegid(), *os.getgroups()):
        return False  # a directory service may not list its other members
    members = {*group.gr_mem, *(user.pw_name for user in pwd.getpwall() if user.pw_gid == gid)}
    return members <= own


def _open_to_others(found: os.stat_result) -> str:
    return f"is writable by other users (mode {stat.S_IMODE(found.st_mode):04o})"


def _user(uid: int) -> str:
    return "root" if uid == _ROOT else f"user id {uid}"
