"""Many persons, one run each: the tasks that an engine runs, their outcomes, and the cohort's files."""

import csv
import io
import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Set
from dataclasses import dataclass
from pathlib import Path

from vaegaze.config.finetune import Config
from vaegaze.errors import UserError, inert
from vaegaze.files import read_text, remove_dead_temporaries, write_text
from vaegaze.runs.earlier import difference_words, differing_keys, stored_settings, with_choices_of
from vaegaze.runs.folder import RunFolder

FINISHED, FAILED = "finished", "failed"
REWRITE_SEC = 1.0
CSV_BEGINS = ("id", "status", "samples", "held_out", "seconds")
LOST_WORKERS = 5  # so many may die in a person's run before the person is given up
PAGE_TITLE, HEAD_BYTES = ": vaegaze cohort</title>", 4096  # as report/templates/cohort.html.j2 names it, and where


@dataclass(frozen=True)
class Record:
    """What came of one person: a line of cohort.jsonl."""

    id: str
    status: str
    reason: str = ""  # one line, of a failure
    samples: int | None = None  # trained on
    held_out: int | None = None
    seconds: float | None = None
    before: dict[str, float | None] | None = None
    after: dict[str, float | None] | None = None

    @property
    def is_sound(self) -> bool:
        """Whether all is of these types, and every number can be shown, as in a file that nobody changed."""
        words, tables = (self.id, self.status, self.reason), (self.before or {}, self.after or {})
        if not all(isinstance(table, dict) for table in tables):
            return False
        numbers = [self.samples, self.held_out, self.seconds, *(n for table in tables for n in table.values())]
        return all(isinstance(word, str) for word in words) and all(n is None or _can_be_shown(n) for n in numbers)


def _can_be_shown(number: object) -> bool:
    return isinstance(number, int | float) and abs(number) < 1e300  # of NaN this is false, too


def finished_record(config: Config, person_id: str) -> Record | None:
    """The record of a finished run, from its folder; None if the run is not finished.

    Of a run with other settings than `config`, it is that of a failure. The resume file and the temporaries
    of a run that was killed at its very end are removed.
    """
    folder = RunFolder(config.oneshot_params.save_dir, person_id)
    missing = [path for path in folder.results(config.oneshot_params.save) if not path.exists()]
    has_ended = folder.has_results() and not folder.resume.exists()
    if missing and not has_ended:
        return None
    try:
        folder.refuse_folders()
        stored = stored_settings(folder)
    except UserError as error:
        return Record(person_id, FAILED, str(error))
    try:
        changed = differing_keys(stored, with_choices_of(stored, config))
        if changed:
            return Record(person_id, FAILED, f"the finished run had other settings: {difference_words(changed)}")
        if missing:
            return Record(person_id, FAILED, f"the finished run lacks {missing[0]}; remove its folder to run it again")
        summary = json.loads(read_text(folder.summary))
        person = json.loads(read_text(folder.path / "person_info.json"))
        record = Record(
            id=person_id,
            status=FINISHED,
            samples=len(person["train_indices"]),
            held_out=summary["held_out"],
            seconds=round(sum(summary["seconds_of"].values()), 2),
            before=summary["before"],
            after=summary["after"],
        )
        if not record.is_sound:
            raise ValueError("not the numbers of a run")
        folder.resume.unlink(missing_ok=True)
        remove_dead_temporaries(folder.path)
        return record
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Record(person_id, FAILED, f"{folder.path} holds a finished run with a damaged summary ({error})")


class Work:
    """The tasks still to run: persons of a cohort, or cells of a benchmark. An engine says how each ended.

    A task that fails is run again `retries` times. One whose worker died is run again `LOST_WORKERS` times: mostly the
    machine is to blame, but a task may also be what kills workers. Either is run again at another place (a node, say)
    where there is one, so that one bad node cannot fail all tasks. `group_of` tells which tasks need the same data: a
    worker stays with its group, and turns to one that no other worker is at, if it can.
    """

    def __init__(
        self,
        tasks: Iterable[str],
        retries: int,
        on_record: Callable[[Record], None],
        group_of: Callable[[str], Hashable] = lambda task: None,
    ):
        self.waiting = list(tasks)
        self.retries, self.on_record, self.group_of = retries, on_record, group_of
        self.running: set[str] = set()
        self.failures: Counter[str] = Counter()
        self.lost_workers: Counter[str] = Counter()
        self.went_wrong_at: defaultdict[str, set[str]] = defaultdict(set)  # places, by task

    def take(self, last: str | None = None, place: str = "", places: Set[str] = frozenset()) -> str | None:
        """The next task for a worker whose last one this was; None if there is none at present.

        The worker is at `place`, one of all the `places` that have workers.
        """
        own, others = last and self.group_of(last), {self.group_of(task) for task in self.running}

        def rank(task: str) -> tuple[bool, bool]:
            group = self.group_of(task)
            return group != own, group in others

        def is_for_another(task: str) -> bool:
            bad = self.went_wrong_at.get(task, set())
            return place in bad and not places <= bad

        fitting = [task for task in self.waiting if not is_for_another(task)]
        if not fitting:
            return None
        task = min(fitting, key=rank)  # of equal ones the first
        self.waiting.remove(task)
        self.running.add(task)
        return task

    def end(self, record: Record, place: str = "") -> None:
        """A run came to its end."""
        self.running.discard(record.id)
        self.failures[record.id] += record.status == FAILED
        if record.status == FAILED and self.failures[record.id] <= self.retries:
            self.went_wrong_at[record.id].add(place)
            self.waiting.append(record.id)
        else:
            self.on_record(record)

    def lose(self, task: str, reason: str, place: str = "") -> None:
        """The worker that ran the task died."""
        self.running.discard(task)
        self.lost_workers[task] += 1
        if self.lost_workers[task] <= LOST_WORKERS:
            self.went_wrong_at[task].add(place)
            self.waiting.append(task)
        else:
            self.on_record(Record(task, FAILED, f"{self.lost_workers[task]} workers died with it: {reason}"))

    def put_back(self, tasks: Iterable[str]) -> None:
        """These were not run, or not to their end, for no fault of theirs."""
        tasks = list(tasks)
        self.running.difference_update(tasks)
        self.waiting[:0] = tasks

    def give_up(self, reason: str) -> None:
        """Nothing can run what still waits."""
        while self.waiting:
            self.on_record(Record(self.waiting.pop(0), FAILED, reason))


class CohortFiles:
    """cohort.csv and cohort.jsonl, rewritten atomically as records come; persons in the data set's order.

    The lines of others, of an earlier cohort in the same folder, follow as they are. Between two rewrites lies at least
    a second: call `write_if_due` now and then, and `write` at the end.
    """

    def __init__(self, save_dir: str, person_ids: Iterable[str]):
        self.csv, self.jsonl = Path(save_dir) / "cohort.csv", Path(save_dir) / "cohort.jsonl"
        self.page = Path(save_dir) / "cohort.html"
        self._refuse_strangers()
        self.order = {person_id: position for position, person_id in enumerate(person_ids)}
        self.records: dict[str, Record] = {}
        self.written_at, self.waiting = -math.inf, False
        self.others = [record for record in self._earlier() if record.id not in self.order]

    def _refuse_strangers(self) -> None:
        """UserError if one of the files is there and does not look like a cohort's file."""
        is_a_cohorts = {
            self.csv: _begins_with(self.csv, ",".join(CSV_BEGINS)),
            self.jsonl: _begins_with(self.jsonl, '{"id": '),
            self.page: self.page.is_file() and PAGE_TITLE.encode() in _head(self.page, HEAD_BYTES),
        }
        for path, as_written in is_a_cohorts.items():
            if path.exists() and not as_written:
                raise UserError(f"{path} exists, and does not look like a cohort's file", about="in_the_way")

    def _earlier(self) -> list[Record]:
        try:
            lines = read_text(self.jsonl).splitlines()
            records = [Record(**json.loads(line)) for line in lines]
        except (OSError, ValueError, TypeError, RecursionError):  # none, or no longer one
            return []
        return [record for record in records if record.is_sound]

    def add(self, *records: Record) -> None:
        self.records |= {record.id: record for record in records}
        self.waiting |= bool(records)
        self.write_if_due()

    def write_if_due(self) -> None:
        """What waits to be written."""
        if self.waiting and time.monotonic() - self.written_at >= REWRITE_SEC:
            self.write()

    def write(self) -> None:
        records = self.in_order() + self.others
        write_text(self.jsonl, "".join(json.dumps(vars(record), allow_nan=False) + "\n" for record in records))
        write_text(self.csv, as_csv(records))
        self.written_at, self.waiting = time.monotonic(), False

    def in_order(self) -> list[Record]:
        return sorted(self.records.values(), key=lambda record: self.order[record.id])

    def count(self, status: str) -> int:
        return sum(record.status == status for record in self.records.values())


def _begins_with(path: Path, text: str) -> bool:
    """Whether it is a file that begins so, or an empty one: without a record."""
    return path.is_file() and _head(path, len(text)) in (b"", text.encode())


def _head(path: Path, count: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(count)


def as_csv(records: list[Record]) -> str:
    """A column for every number before and after; an unknown one is left empty."""
    metrics = list(dict.fromkeys(name for record in records for name in record.after or ()))
    columns = [f"{when}_{name}" for name in metrics for when in ("before", "after")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CSV_BEGINS, *columns, "reason"])
    for record in records:
        numbers = [(getattr(record, when) or {}).get(name) for name in metrics for when in ("before", "after")]
        facts = inert(record.id), record.status, record.samples, record.held_out, record.seconds
        writer.writerow([*facts, *numbers, inert(record.reason)])
    return text.getvalue()
