"""Store: evaluations and studies in one SQLite file, written by one driver at a time, read by anybody.

An evaluation is one workload on one chip at one fidelity, under the key of `sim.explore.keys`; a study is a list of
points, each of which is one evaluation per workload. So a study that is resumed, extended or resembles another finds
what is there. WAL with synchronous=FULL: what `add` returned from is on disk, whatever happens to the driver.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sim import __version__
from sim.errors import Diagnostic, InputError, LeptonError
from sim.explore.keys import KEY_BYTES
from sim.explore.locks import give_up_lock, take_lock
from sim.explore.results import Result, Results, RowMetrics, packed
from sim.explore.space import Point, Space
from sim.garbage import no_collections

if TYPE_CHECKING:
    from sim.explore.study import Study

SCHEMA = 2
"""Format of the file. 1 had points as JSON or as numbers between commas, and did not say who wrote it."""
APPLICATION = 0x6C65_7074
"""Marks the file as one of ours: "lept"."""

MEMORY = ":memory:"
_TABLES = """
CREATE TABLE evaluations (key BLOB PRIMARY KEY, model TEXT NOT NULL, fidelity TEXT NOT NULL, parameters TEXT NOT NULL,
    status TEXT NOT NULL, error TEXT NOT NULL, wall_s REAL NOT NULL);
CREATE TABLE writer (version TEXT NOT NULL);
CREATE TABLE studies (id INTEGER PRIMARY KEY, name TEXT NOT NULL, plan TEXT NOT NULL UNIQUE, created REAL NOT NULL);
CREATE TABLE points (study INTEGER NOT NULL, fidelity TEXT NOT NULL, point TEXT NOT NULL, number INTEGER NOT NULL,
    sampler TEXT NOT NULL, keys BLOB NOT NULL, PRIMARY KEY (study, fidelity, sampler, point)) WITHOUT ROWID;
"""
READ_ROWS = 4096
"""Rows that are read at once, and whose metrics are kept together."""
_FIXED = ("key", "model", "fidelity", "parameters", "status", "error", "wall_s")


@dataclass(frozen=True, slots=True)
class Evaluations:
    """Rows to store: a key and the parameters as JSON for every result."""

    keys: Sequence[bytes]
    model: str
    fidelity: str
    parameters: Sequence[str]
    results: Results


@dataclass(frozen=True, slots=True)
class StudyPoint:
    """A point as a study asked for it: the `number`-th of `sampler`, and the key of each of its evaluations."""

    point: Point
    fidelity: str
    sampler: str
    number: int
    keys: tuple[bytes, ...]


class StoreFull(LeptonError):
    """The disk, or a quota, has no room for more; what was stored before stays."""


class Store:
    """An open store. Use `open_store`; `close` (or a with block) lets others write."""

    def __init__(self, path: str, connection: sqlite3.Connection, lock: IO[str] | None) -> None:
        self.path = path
        self._db = connection
        self._lock = lock
        self._columns = {row[1] for row in self._db.execute("PRAGMA table_info(evaluations)")}

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and give up its lock. A writer leaves one file, which can be read where nothing can be
        written."""
        if self._lock is not None:
            with suppress(sqlite3.Error):  # somebody reads, or the disk is full: it stays as it is
                self._db.execute("PRAGMA busy_timeout=0")
                self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.close()
        if self._lock is not None:
            give_up_lock(self._lock)

    def study(self, name: str, plan: Mapping[str, Any]) -> int:
        """The number of the study of this plan (space, sampler, seed, fidelity), new or there already."""
        text = json.dumps(plan, sort_keys=True)
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO studies (name, plan, created) VALUES (?, ?, ?)",
                (name, text, time.time()),
            )
        return int(self._db.execute("SELECT id FROM studies WHERE plan = ?", (text,)).fetchone()[0])

    def studies(self) -> list[tuple[int, str, dict[str, Any]]]:
        """Number, name and plan of every study, oldest first."""
        with _readable(self.path):
            rows = self._db.execute("SELECT id, name, plan FROM studies ORDER BY id").fetchall()
            return [(number, name, json.loads(plan)) for number, name, plan in rows]

    def known(self, retry_failed: bool = False) -> set[bytes]:
        """Keys of all evaluations; those that failed are left out where they are to be tried again."""
        which = " WHERE status <> 'failed'" if retry_failed else ""
        with _readable(self.path):
            return {row[0] for row in self._db.execute(f"SELECT key FROM evaluations{which}")}

    def add(
        self, evaluations: Iterable[Evaluations], points: Iterable[StudyPoint] = (), study: int = 0
    ) -> None:
        """Store evaluations and the points that asked for them, in one transaction. Raises StoreFull."""
        asked = [
            (study, p.fidelity, ",".join(map(str, p.point)), p.number, p.sampler, b"".join(p.keys))
            for p in points
        ]
        with self._writing():
            for some in evaluations:
                self._insert(some)
            self._db.executemany("INSERT OR IGNORE INTO points VALUES (?, ?, ?, ?, ?, ?)", asked)

    def _insert(self, some: Evaluations) -> None:
        results = some.results
        for name in results.metrics:
            if name not in self._columns:
                self._db.execute(f"ALTER TABLE evaluations ADD COLUMN {_quoted(name)}")
                self._columns.add(name)
        names = [*_FIXED, *results.metrics]
        statement = (
            f"INSERT OR REPLACE INTO evaluations ({', '.join(map(_quoted, names))}) "
            f"VALUES ({', '.join('?' * len(names))})"
        )
        head = (some.keys, repeat(some.model), repeat(some.fidelity), some.parameters)
        told = (results.status, results.error, results.wall_s)
        try:
            self._db.executemany(statement, zip(*head, *told, *results.metrics.values(), strict=False))
        except OverflowError:  # its integers have 64 bits, larger ones are kept to 16 digits
            columns = (list(map(_fitting, column)) for column in results.metrics.values())
            self._db.executemany(statement, zip(*head, *told, *columns, strict=False))

    def points(self, study: int) -> list[StudyPoint]:
        """The points of a study, in the order in which each sampler asked for them."""
        query = "SELECT point, fidelity, sampler, number, keys FROM points WHERE study = ? ORDER BY sampler, number"
        with _readable(self.path):
            rows = self._db.execute(query, (study,)).fetchall()
            return [
                StudyPoint(tuple(map(int, r[0].split(","))), r[1], r[2], r[3], tuple(_split(r[4])))
                for r in rows
            ]

    def results(self, keys: Iterable[bytes] | None = None) -> dict[bytes, Result]:
        """Results by key: all, or those of `keys`."""
        names = sorted(self._columns - set(_FIXED))
        columns = ", ".join(map(_quoted, ("key", "status", "error", "wall_s", *names)))
        query = f"SELECT {columns} FROM evaluations"
        if keys is not None:
            return self._some(query, names, list(keys))
        with _readable(self.path):
            return _results(self._db.execute(query), names)

    def _some(self, query: str, names: Sequence[str], keys: Sequence[bytes]) -> dict[bytes, Result]:
        found: dict[bytes, Result] = {}
        with _readable(self.path):
            for at in range(0, len(keys), 500):
                part = keys[at : at + 500]
                where = f"{query} WHERE key IN ({', '.join('?' * len(part))})"
                found |= _results(self._db.execute(where, part), names)
        return found

    def count(self) -> int:
        """Evaluations stored."""
        with _readable(self.path):
            return int(self._db.execute("SELECT count(*) FROM evaluations").fetchone()[0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction; all or nothing."""
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield
        except sqlite3.OperationalError as error:
            other = InputError(Diagnostic(f"cannot write the study: {error}", self.path))
            raise _outside(self.path, error) or other from error
        except sqlite3.DatabaseError as error:
            raise _corrupt(self.path, error) from error


def open_store(path: str | Path, *, write: bool = False) -> Store:
    """Open the store at `path`; with `write`, make it where there is none, and keep other writers out.

    Raises InputError on a file that is no study, of another version, corrupted, or written by another process.
    """
    name = str(path)
    if name == MEMORY:
        return Store(name, _prepared(name, write), None)
    if Path(name).is_dir():
        raise InputError(Diagnostic("a folder; a study is a file", name, hint="such as study.sqlite in it"))
    if not write and not Path(name).is_file():
        raise InputError(Diagnostic("no such study", name, hint="`lepton sweep --out` writes one"))
    lock = take_lock(Path(name)) if write else None
    try:
        return Store(name, _prepared(name, write), lock)
    except BaseException:
        if lock is not None:
            give_up_lock(lock)
        raise


def open_study(path: str | Path, name: str | None = None) -> Study:
    """The study of a file: the newest, or the newest of this name. Raises InputError as open_store, and where
    there is none."""
    from sim.errors import did_you_mean

    with open_store(path) as store:
        found = store.studies()
        named = [item for item in found if name in (None, item[1])]
        if not named:
            names = sorted({item[1] for item in found})
            hint = did_you_mean(name or "", names) or f"studies: {', '.join(names) or 'none'}"
            message = f"no study named '{name}'" if found else "no study in it"
            raise InputError(Diagnostic(message, str(path), hint=hint))
        number, _, plan = named[-1]
        return read_study(store, number, plan)


def open_studies(path: str | Path, name: str | None = None) -> list[Study]:
    """The studies of a file, the newest of each name; or the one that is named. Raises InputError as open_study."""
    if name is not None:
        return [open_study(path, name)]
    with open_store(path) as store:
        newest = {title: (number, plan) for number, title, plan in store.studies()}
        if not newest:
            raise InputError(Diagnostic("no study in it", str(path)))
        return [read_study(store, number, plan) for number, plan in newest.values()]


def read_study(store: Store, number: int, plan: Mapping[str, Any]) -> Study:
    """A study of an open store, as far as it is."""
    from sim.explore.study import Study

    with no_collections():
        points = tuple(store.points(number))
        wanted = {key for point in points for key in point.keys}
        results = {key: result for key, result in store.results().items() if key in wanted}
    with _readable(store.path):
        space = Space.from_data(plan["space"])
        lengths = [len(axis.rows) for axis in space.axes]
        for one in points:
            if len(one.keys) != len(space.workloads) or not _is_within(one.point, lengths):
                raise ValueError(f"point {one.point} is none of the space's")
    return Study(space, plan, points, results)


def _is_within(point: Point, lengths: Sequence[int]) -> bool:
    return len(point) == len(lengths) and all(map(int.__lt__, point, lengths)) and min(point) >= 0


def _prepared(name: str, write: bool) -> sqlite3.Connection:
    """A connection to a checked file of ours."""
    try:
        return _connected(name, write, "rwc" if write else "ro")
    except InputError as error:
        cause = error.__cause__
        if write or getattr(cause, "sqlite_errorname", "")[:15] != "SQLITE_READONLY":
            raise
    # Its last writer was killed while it closed the file: what it left behind is taken back first.
    return _connected(name, write, "rw")


def _connected(name: str, write: bool, mode: str) -> sqlite3.Connection:
    try:
        where = name if name == MEMORY else f"file:{_uri(name)}?mode={mode}"
        db = sqlite3.connect(where, uri=name != MEMORY, isolation_level=None, timeout=5.0)
    except sqlite3.OperationalError as error:
        raise InputError(Diagnostic(f"cannot open the study: {error}", name)) from error
    try:
        _check(db, name, write)
    except sqlite3.DatabaseError as error:
        db.close()
        raise _outside(name, error) or _corrupt(name, error) from error
    except BaseException:
        db.close()
        raise
    return db


SQLITE_HEADER = b"SQLite format 3\0"


def _check(db: sqlite3.Connection, name: str, write: bool) -> None:
    """Refuse what is not a study of this version; make the tables of a new one."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application == 0 and tables == 0 and write:
        if name != MEMORY and Path(name).read_bytes()[:16] not in (b"", SQLITE_HEADER):
            # SQLite takes the shortest of files for empty ones.
            raise _corrupt(name, "it does not begin as one")
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(
            f"BEGIN; {_TABLES} INSERT INTO writer VALUES ('{__version__}');"
            f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={SCHEMA}; COMMIT;"
        )
    elif application != APPLICATION:
        raise InputError(
            Diagnostic("this SQLite file holds no study", name, hint="name another file for --out")
        )
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA:
        raise _other_format(db, name, version)
    if write:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _corrupt(name, verdict)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        # Keys are random: every transaction touches most pages of their index, so fewer checkpoints write less.
        db.execute("PRAGMA cache_size=-65536")
        db.execute("PRAGMA wal_autocheckpoint=8192")
    db.execute("PRAGMA temp_store=MEMORY")


def _other_format(db: sqlite3.Connection, name: str, version: int) -> InputError:
    """Who wrote it, and what can be done."""
    try:
        writer = f"lepton-sim {db.execute('SELECT version FROM writer').fetchone()[0]}"
    except (sqlite3.Error, TypeError):
        writer = "an earlier lepton-sim, which left no version in it"
    message = (
        f"a study of format {version}, written by {writer}; this is lepton-sim {__version__}, "
        f"which reads format {SCHEMA}"
    )
    hint = "`lepton sweep ... --out STUDY --export FILE.csv` of the version that wrote it exports it; or sweep "
    return InputError(Diagnostic(message, name, hint=f"{hint}again into a new file"))


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        other = InputError(Diagnostic(f"cannot read the study: {error}", path))
        raise _outside(path, error) or other from error
    except sqlite3.DatabaseError as error:
        raise _corrupt(path, error) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _corrupt(path, f"{type(error).__name__}: {error}") from error


def _outside(path: str, error: sqlite3.DatabaseError) -> StoreFull | InputError | None:
    """What the user is told where the disk or another program is in the way; None where it is something else."""
    text = str(error)
    if "full" in text or "disk I/O" in text:
        where = f"{path}: no room to store more ({text})"
        return StoreFull(f"error: {where}; make room and run the same command again: it goes on")
    if "locked" in text or "busy" in text:
        return InputError(Diagnostic("the study is locked by another program", path))
    return None


def _corrupt(path: str, error: object) -> InputError:
    hint = "the file is left as it is: `sqlite3 FILE .recover` reads what can be read; or name another file"
    return InputError(Diagnostic(f"the study is corrupted, or no SQLite file: {error}", path, hint=hint))


def _results(rows: sqlite3.Cursor, names: Sequence[str]) -> dict[bytes, Result]:
    found: dict[bytes, Result] = {}
    while some := rows.fetchmany(READ_ROWS):
        keys, status, error, wall_s, *metrics = map(packed, zip(*some, strict=True))
        columns = dict(zip(names, metrics, strict=True))
        found |= {
            key: Result(status[at], RowMetrics(columns, at) if status[at] == "ok" else {}, error[at], wall_s[at])
            for at, key in enumerate(keys)
        }
    return found


def _fitting(value: Any) -> Any:
    return float(value) if type(value) is int and abs(value) >= 1 << 63 else value


def _split(keys: bytes) -> Iterator[bytes]:
    for at in range(0, len(keys), KEY_BYTES):
        yield keys[at : at + KEY_BYTES]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _uri(name: str) -> str:
    from urllib.parse import quote

    return quote(str(Path(name).absolute()))
