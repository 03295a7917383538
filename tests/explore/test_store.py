"""sim/explore/store.py: nothing that was stored is lost, and every file that is no store of ours is told apart."""

from __future__ import annotations

import json
import pickle
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import pytest
from spaces import numbers, space

from sim.errors import InputError
from sim.explore import locks as locks_module
from sim.explore import store as store_module
from sim.explore.keys import KeyMaker
from sim.explore.results import Result, Results, packed
from sim.explore.store import Evaluations, Store, StoreFull, open_store, open_study
from sim.explore.sweep import sweep

HERE = Path(__file__).parent


def stored(key: bytes, result: Result) -> Evaluations:
    """One evaluation."""
    return Evaluations([key], "gemm", "event", ["{}"], Results.of([result]))


def evaluation(number: int) -> Evaluations:
    """Any one, of about 4 KiB."""
    metrics = {"latency_s": number / 8, "tasks": number, "huge": 2**70, "words": "x" * 4000}
    return stored(number.to_bytes(16, "big"), Result("ok", metrics, "", 0.5))


def test_what_is_stored_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    failed = stored(b"f" * 16, Result("failed", {}, "why", 0.25))
    with open_store(file, write=True) as store:
        store.add([evaluation(1), failed])
        store.add([stored(b"g" * 16, Result("ok", {"new_column_j": 1.5}, "", 0.0))])
    with open_store(file) as store:
        found = store.results()
        assert store.known() == {(1).to_bytes(16, "big"), b"f" * 16, b"g" * 16}
        assert store.known(retry_failed=True) == {(1).to_bytes(16, "big"), b"g" * 16}
    assert found[(1).to_bytes(16, "big")].metrics["latency_s"] == 0.125
    assert found[(1).to_bytes(16, "big")].metrics["huge"] == float(2**70)
    assert found[b"g" * 16].metrics["new_column_j"] == 1.5
    assert found[b"f" * 16] == Result("failed", {}, "why", 0.25)


def test_many_rows_are_read_as_they_were_stored_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "READ_ROWS", 7)  # three times the rows of a read, and some
    given = [
        Result("ok", {"a_s": at / 8, "tasks": at, "mixed": at if at % 3 else 0.5, "word": "s" * (at % 3)}, "", 1.0)
        if at % 5
        else Result("failed", {}, f"why {at % 2}", 0.0)
        for at in range(25)
    ]
    keys = [at.to_bytes(16, "big") for at in range(25)]
    with open_store(":memory:", write=True) as store:
        store.add([Evaluations(keys, "gemm", "event", ["{}"] * 25, Results.of(given))])
        found = store.results()
        some = store.results(keys[3:20])
    assert found == dict(zip(keys, given, strict=True))
    assert some == dict(zip(keys[3:20], given[3:20], strict=True))
    for result, read in zip(given, found.values(), strict=True):
        assert {name: type(value) for name, value in read.metrics.items()} == {
            name: type(value) for name, value in result.metrics.items()
        }
    metrics = found[keys[1]].metrics
    assert (metrics.get("tasks"), metrics.get("none"), type(metrics["tasks"])) == (1, None, int)
    assert pickle.loads(pickle.dumps(metrics)) == metrics == given[1].metrics
    with pytest.raises(KeyError):
        metrics["none"]
    # A dict of its own for every row would take more than this for the dict alone.
    assert sys.getsizeof(metrics) < 64
    column = packed([1.5, 2.5] * 500)
    assert sys.getsizeof(column) < 8 * 1000 + 200


def test_a_driver_killed_twenty_times_loses_nothing_it_stored(tmp_path: Path) -> None:
    file = tmp_path / "killed.sqlite"
    done = subprocess.run(
        [sys.executable, HERE / "killed_drivers.py", file, "20"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert len(found["kills"]) == 20
    for told, coming, stored in found["kills"]:
        # What comes back in quick succession is stored together: all of it, or nothing.
        assert stored in (told, told + coming)
    assert [stored for *_, stored in found["kills"]] == sorted(stored for *_, stored in found["kills"])
    assert found["kills"][0][2] < 18  # it was really interrupted
    expected = numbers(sweep(space(), workers=1))
    rows = json.loads(expected.to_json(orient="records", double_precision=15))
    assert found["rows"] == rows


def test_a_full_disk_keeps_what_was_stored(tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk."""
    file = tmp_path / "full.sqlite"
    with open_store(file, write=True) as store:
        store._db.execute("PRAGMA max_page_count=40")
        store.add([evaluation(number) for number in range(20)])
        with pytest.raises(
            StoreFull, match=r"no room to store more .*make room and run the same command again"
        ):
            store.add([evaluation(number) for number in range(20, 60)])
    with open_store(file) as store:
        assert store.count() == 20


@pytest.mark.parametrize("write", [True, False])
def test_a_study_that_another_program_holds_is_locked_and_not_corrupted(
    write: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "held.sqlite"
    with open_store(file, write=True) as store:
        store.add([evaluation(0)])
    connect = sqlite3.connect
    holder = connect(file, isolation_level=None)
    holder.execute("PRAGMA locking_mode=EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **b: connect(*a, **(b | {"timeout": 0.01})))
    with pytest.raises(InputError, match=r"held\.sqlite: error: the study is locked by another program"):
        open_store(file, write=write)
    holder.close()
    with open_store(file) as store:
        assert store.count() == 1


def test_a_disk_without_room_for_a_new_study_is_no_corrupted_study(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(StoreFull, match=r"no room to store more .*make room"):
            open_store(tmp_path / "new.sqlite", write=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with open_store(tmp_path / "new.sqlite", write=True) as store:
        assert store.count() == 0


def test_a_sweep_on_a_full_disk_ends_with_one_message_and_goes_on_later(tmp_path: Path) -> None:
    """A limit on the size of files is a full disk to the process."""
    file = tmp_path / "full.sqlite"
    command = [sys.executable, "-m", "sim", "sweep", "--chip", "tiny", "--workload", "gemm:16x16x16", "--dtype",
               "int8", "--vary", "clock=100 MHz..200 MHz+0.5 MHz", "--workers", "1", "--out", str(file)]  # fmt: skip
    limited = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert limited.returncode == 1, limited.stderr
    assert "no room to store more" in limited.stderr
    assert "Traceback" not in limited.stderr
    with open_store(file) as store:
        before = store.count()
    assert 0 < before < 201


def test_a_second_writer_is_kept_out_and_readers_are_not(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    with open_store(file, write=True) as store:
        store.add([evaluation(1)])
        with pytest.raises(InputError, match=r"s.sqlite: error: the study is being written by process \d+"):
            open_store(file, write=True)
        with open_store(file) as reader:
            assert reader.count() == 1
    open_store(file, write=True).close()


def test_a_closed_study_is_one_file_that_can_be_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    file = folder / "s.sqlite"
    sweep(space(), workers=1, fidelity="bound", out=file)
    assert list(folder.iterdir()) == [file]
    with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as db:  # no journal beside it
        assert db.execute("SELECT count(*) FROM evaluations").fetchone()[0] == 18
    with open_store(file, write=True) as store, open_store(file) as reader:
        store.add([evaluation(1)])
        assert reader.count() == 19
    sweep(space(), workers=1, fidelity="bound", out=file)
    assert len(open_study(file).table) == 18
    assert list(folder.iterdir()) == [file]
    with pytest.raises(InputError, match="kept: error: a folder; a study is a file"):
        sweep(space(), workers=1, out=folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_what_a_killed_writer_left_half_done_is_taken_back_by_the_first_reader(tmp_path: Path) -> None:
    """A journal beside the file, as of a process that ends within a transaction larger than its cache."""
    file, left = tmp_path / "s.sqlite", tmp_path / "left.sqlite"
    sweep(space(), workers=1, fidelity="bound", out=file)
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("PRAGMA cache_size=2")
        db.execute("BEGIN")
        db.execute("DELETE FROM evaluations")
        db.executemany("INSERT INTO writer VALUES (?)", [("x" * 3000,)] * 50)
        shutil.copy(file, left)
        shutil.copy(f"{file}-journal", f"{left}-journal")
        db.execute("ROLLBACK")
    assert (open_study(left).table["status"] == "ok").sum() == 18


def test_a_lock_that_was_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, the last writer removes the file and another makes a new one and locks it."""
    file = tmp_path / "s.sqlite"
    real = locks_module._is_the_one
    held: list[Any] = []

    def meanwhile(handle: IO[str], beside: Path) -> bool:
        if not held:
            beside.unlink()
            held.append(None)
            held.append(locks_module.take_lock(file))
        return real(handle, beside)

    monkeypatch.setattr(locks_module, "_is_the_one", meanwhile)
    with pytest.raises(InputError, match="being written by process"):
        locks_module.take_lock(file)
    locks_module.give_up_lock(held[1])
    locks_module.give_up_lock(locks_module.take_lock(file))
    assert list(tmp_path.iterdir()) == []


def test_a_transaction_of_another_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "s.sqlite"
    with open_store(file, write=True) as store:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        store._db.execute("PRAGMA busy_timeout=10")
        with pytest.raises(InputError, match="locked by another program"):
            store.add([evaluation(1)])
        other.execute("ROLLBACK")
        store.add([evaluation(1)])
        assert store.count() == 1
        other.close()


def damaged(file: Path) -> None:
    """Overwrite the middle of a store of some pages."""
    with open_store(file, write=True) as store:
        store.add([evaluation(number) for number in range(40)])
    with file.open("r+b") as handle:
        handle.seek(8192)
        handle.write(b"\xff" * 65536)


def test_files_that_are_no_store_are_told_apart(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("no database, but long enough to be read as one" * 100)
    short = tmp_path / "short.txt"
    short.write_text("1")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    newer = tmp_path / "newer.sqlite"
    with open_store(newer, write=True) as store:
        store._db.execute("PRAGMA user_version=99")
    broken = tmp_path / "broken.sqlite"
    damaged(broken)
    before = broken.read_bytes()
    for file, message in (
        (text, "corrupted, or no SQLite file"),
        (short, "corrupted, or no SQLite file"),
        (other, "holds no study"),
        (newer, r"a study of format 99, written by lepton-sim 0\.\S+; this is lepton-sim 0\.\S+, which reads format 2"),
        (broken, "corrupted"),
        (tmp_path / "no" / "folder.sqlite", "cannot write the study: No such file or directory"),
    ):
        with pytest.raises(InputError, match=message):
            sweep(space(), workers=1, out=file)
    assert (broken.read_bytes(), short.read_text()) == (before, "1")
    with pytest.raises(InputError, match="no such study"):
        open_study(tmp_path / "none.sqlite")
    open_store(tmp_path / "empty.sqlite", write=True).close()
    with pytest.raises(InputError, match="no study in it"):
        open_study(tmp_path / "empty.sqlite")


def first_format(file: Path) -> None:
    """A store as format 1 had it: no writer, points as JSON."""
    with closing(sqlite3.connect(file)) as db:
        db.executescript(
            """CREATE TABLE evaluations (key BLOB PRIMARY KEY, model TEXT, fidelity TEXT, parameters TEXT, status TEXT,
               error TEXT, wall_s REAL);
               CREATE TABLE studies (id INTEGER PRIMARY KEY, name TEXT, plan TEXT, created REAL);
               CREATE TABLE points (study INTEGER, fidelity TEXT, point TEXT, number INTEGER, sampler TEXT, keys BLOB);
               INSERT INTO studies VALUES (1, 'old', '{}', 0.0);
               INSERT INTO points VALUES (1, 'event', '[0, 1]', 0, 'grid', x'00');
               PRAGMA application_id=1818587252; PRAGMA user_version=1;"""
        )


def test_an_earlier_format_is_refused_by_whoever_reads_or_writes(tmp_path: Path) -> None:
    file = tmp_path / "old.sqlite"
    first_format(file)
    before = file.read_bytes()
    message = r"old.sqlite: error: a study of format 1, written by an earlier lepton-sim.*--export FILE.csv.*a new file"
    with pytest.raises(InputError, match=message):
        open_study(file)
    with pytest.raises(InputError, match=message):
        sweep(space(), workers=1, out=file)
    assert file.read_bytes() == before


def test_what_a_store_holds_may_be_nonsense(tmp_path: Path) -> None:
    """Tables of ours with contents that are not."""
    for number, statement in enumerate((
        "UPDATE points SET point = '[0, 1, 0]' WHERE number = 3",
        "UPDATE points SET point = '0,1,9' WHERE number = 3",
        "UPDATE points SET point = '0,1' WHERE number = 3",
        "UPDATE points SET keys = 7 WHERE number = 3",
        "UPDATE studies SET plan = 'no JSON'",
        "UPDATE studies SET plan = '{}'",
        "UPDATE studies SET plan = json_remove(plan, '$.space.axes')",
        "DROP TABLE points",
        "DROP TABLE evaluations",
    )):  # fmt: skip
        file = tmp_path / f"{number}.sqlite"
        sweep(space(), workers=1, fidelity="bound", out=file)
        with closing(sqlite3.connect(file)) as db, db:
            db.execute(statement)
        with pytest.raises(InputError, match=f"{number}.sqlite: error: (the study is corrupted|cannot read the study)"):
            open_study(file)


def test_a_damaged_file_is_refused_or_read(tmp_path: Path) -> None:
    """Cut anywhere, or with random bytes anywhere: whoever opens it gets a study or a message."""
    file = tmp_path / "s.sqlite"
    sweep(space(), workers=1, fidelity="bound", out=file)
    whole = file.read_bytes()
    rng = random.Random(4)
    damaged = [whole[: round(len(whole) * share / 16)] for share in range(16)]
    for _ in range(24):
        at = rng.randrange(len(whole))
        damaged.append(whole[:at] + rng.randbytes(64) + whole[at + 64 :])
    complaints = []
    for content in (*damaged, rng.randbytes(5000)):
        other = tmp_path / "damaged.sqlite"
        other.write_bytes(content)
        try:
            assert len(open_study(other).table) <= 18
        except InputError as error:
            complaints.append(str(error))
    assert len(complaints) >= 17  # all that are cut, and noise
    assert all(str(tmp_path) in complaint for complaint in complaints)


def test_keys_know_what_matters() -> None:
    def key(point: tuple[int, ...] = (0,), fidelity: str = "event", **changes: object) -> bytes:
        one = space(parameters={"core.array.rows": [8, 16]}, **changes)  # type: ignore[arg-type]
        return KeyMaker(one, one.workloads[0], fidelity).keys([point])[0]

    gemm = {"model": "gemm:8x8x8", "dtype": "int8"}
    base = key(workloads=[gemm])
    assert base != key((1,), workloads=[gemm])
    assert base != key(fidelity="bound", workloads=[gemm])
    assert base != key(workloads=[{**gemm, "dtype": "fp32"}])
    assert base != key(workloads=[{**gemm, "batch": 2}])
    assert base != key(workloads=[{**gemm, "model": "gemm:8x8x9"}])
    assert base != key(chip="lepton_s", workloads=[gemm])
    assert base == key(workloads=[{**gemm, "name": "other", "weight": 2.0, "inputs": 1, "partition": "auto"}])
    # 8 rows is what tiny has: a study that does not vary them finds the same evaluation.
    other = space(parameters={"clock": ["500 MHz", "1 GHz"]}, workloads=[gemm])
    assert base == KeyMaker(other, other.workloads[0], "event").keys([(0,)])[0]
    named = space(parameters={"cores.core.array.rows": [16]}, workloads=[gemm])
    assert KeyMaker(named, named.workloads[0], "event").keys([(0,)])[0] == key((1,), workloads=[gemm])
    batch = space(parameters={"workload.batch": [2]}, workloads=[gemm])
    assert KeyMaker(batch, batch.workloads[0], "event").keys([(0,)])[0] == key(workloads=[{**gemm, "batch": 2}])


def test_a_changed_model_file_is_another_model(tmp_path: Path) -> None:
    from sim.explore.keys import model_digest

    file = tmp_path / "net.csv"
    digests = []
    for text in ("Layer,M,N,K,\na,8,8,8,\n", "Layer,M,N,K,\na,8,8,9,\n"):
        file.write_text(text)
        model_digest.cache_clear()
        digests.append(model_digest(str(file)))
    assert digests[0] != digests[1]


def test_the_store_is_whole_after_every_add(tmp_path: Path) -> None:
    with open_store(tmp_path / "s.sqlite", write=True) as store:
        assert store._db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert store._db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        assert isinstance(store, Store)
