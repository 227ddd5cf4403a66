"""`vaegaze train_all`: every person of a data set, in this process, on a real Ray, and through submitit."""

import csv
import json
import os
import shutil
import signal
import time
from contextlib import nullcontext
from functools import partial

import h5py
import numpy as np
import pytest
from command_runs import assert_one_line, assert_same_weights, command, invoke, signal_at_step, start_process

from vaegaze.commands import train_all
from vaegaze.commands.engines import chosen_engine
from vaegaze.config.cohort import CohortConfig, CohortParams
from vaegaze.config.tree import resolve
from vaegaze.models import device
from vaegaze.runs import recorder
from vaegaze.runs.cohort import FAILED, FINISHED, LOST_WORKERS, CohortFiles, Record, Work
from vaegaze.runs.person_list import persons_to_run

STEPS = ("--num_steps", 6, "--num_eval_samples", 2, "--checkpoint_every", 2, "--log_every", 2)
SCRIPT = "import sys\nfrom vaegaze.commands.train_all import main\nsys.exit(main())"


@pytest.fixture(scope="module")
def cohort_file(world, tmp_path_factory):
    """The rendered persons, one with NaN labels, one without labels; and one with empty eye masks, for which the
    head pose stands in."""
    path = tmp_path_factory.mktemp("cohort") / "gaze.h5"
    with h5py.File(world.hdf_path) as source, h5py.File(path, "w") as file:
        for name in source:
            source.copy(name, file)
        for name in ("nan_labels", "no_labels"):
            source.copy("person_004", file, name)
        file["nan_labels/labels"][...] = np.nan
        del file["no_labels/labels"]
        for key in {"face_parsing", "mask"} & set(file["person_004"]):
            file[f"person_004/{key}"][...] = 0
    return path


@pytest.fixture
def flags(world, cohort_file, tmp_path):
    return [*world.flags, "--hdf_path", cohort_file, *STEPS, "--save_dir", tmp_path / "runs", "--retries", 1]


@pytest.fixture
def run_all():
    return partial(invoke, train_all.main)


def records_in(save_dir) -> dict[str, dict]:
    lines = (save_dir / "cohort.jsonl").read_text().splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


def test_one_after_the_other(run_all, flags, world, tmp_path):
    outcome = run_all(*flags, "--engine", "none")
    assert outcome.code == 3, outcome
    records = records_in(tmp_path / "runs")
    assert list(records) == ["nan_labels", "no_labels", *(f"person_00{i}" for i in range(1, 5))]
    assert [record["status"] for record in records.values()] == [FAILED] * 2 + [FINISHED] * 4
    assert "nan" in records["nan_labels"]["reason"] and "\n" not in records["nan_labels"]["reason"]
    assert "labels" in records["no_labels"]["reason"]
    assert records["person_001"]["samples"] == 8 and records["person_001"]["seconds"] > 0

    with open(tmp_path / "runs/cohort.csv", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert float(rows["person_002"]["after_eye_l1"]) == records["person_002"]["after"]["eye_l1"]
    text = (tmp_path / "runs/cohort.html").read_text()
    assert "person_003/report.html" in text and records["no_labels"]["reason"].split("'")[0] in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")

    # Each equals a run of its own.
    alone = command(*world.flags, *STEPS, "--person_id", "person_002", "--save_dir", tmp_path / "alone")
    assert alone.code == 0, alone
    assert_same_weights(*(tmp_path / each / "person_002/finetuned_model.pth" for each in ("alone", "runs")))

    # Again: nobody is trained twice, and the failures are tried anew.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/finetuned_model.pth")}
    assert run_all(*flags, "--engine", "none").code == 3
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/finetuned_model.pth")}
    assert records_in(tmp_path / "runs") == records

    # The page alone is a cohort's, too.
    for name in ("cohort.csv", "cohort.jsonl"):
        (tmp_path / "runs" / name).unlink()
    assert run_all(*flags, "--engine", "none").code == 3 and records_in(tmp_path / "runs") == records

    # A finished run of other settings is no result of this command.
    others = run_all(*flags, "--engine", "none", "--persons", "person_002", "--num_steps", 7)
    assert_one_line(others, "num_steps was 6, now 7", "--overwrite")
    assert records_in(tmp_path / "runs") == records

    # Unless it is to be replaced.
    replaced = run_all(*flags, "--engine", "none", "--persons", "person_002", "--num_steps", 7, "--overwrite")
    assert replaced.code == 0 and records_in(tmp_path / "runs")["person_002"]["status"] == FINISHED, replaced


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_goes_on(run_all, flags, tmp_path):
    longer = [*flags, "--engine", "none", "--num_steps", 60, "--persons", "person_002,person_003"]
    process = start_process(*longer, script=SCRIPT)
    resume = tmp_path / "runs/person_002/resume.pth"
    deadline = time.monotonic() + 120
    while not resume.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    stopped = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130 and time.monotonic() - stopped < 10
    assert resume.exists()

    assert run_all(*longer).code == 0
    whole = run_all(*longer[:-1], "person_002", "--save_dir", tmp_path / "whole")
    assert whole.code == 0, whole
    assert_same_weights(*(tmp_path / each / "person_002/finetuned_model.pth" for each in ("whole", "runs")))


@pytest.fixture(scope="module")
def ray():
    """One Ray for all tests here: its start takes longer than they do."""
    ray = pytest.importorskip("ray")
    from vaegaze.runs.engines import on_ray

    with pytest.MonkeyPatch.context() as patched, on_ray.cluster(None, cpus=2):
        assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"], "open to other machines"
        patched.setattr(on_ray, "cluster", lambda address, cpus: nullcontext())
        yield ray
    assert not ray.is_initialized()


@pytest.fixture
def when_runs_are_saved(monkeypatch, tmp_path):
    """Has `then(folders)` called once, as soon as an unfinished run can be gone on with."""

    def arrange(then):
        def show(progress, running, failed):
            folders = [path.parent for path in tmp_path.glob("runs/*/resume.pth")]
            if folders and not called:
                called.append(True)
                then(folders)

        called = []
        monkeypatch.setattr(train_all.CohortProgress, "show", show)

    return arrange


def assert_as_undisturbed(run_all, flags, tmp_path, person_ids) -> None:
    flags = [*flags[:-1], ",".join(person_ids)]  # the last are --persons
    run_all(*flags, "--engine", "none", "--save_dir", tmp_path / "none", ok=True)
    records = records_in(tmp_path / "runs")
    for person_id, record in records_in(tmp_path / "none").items():
        assert record["after"] == records[person_id]["after"] and record["before"] == records[person_id]["before"]
        assert_same_weights(*(tmp_path / each / person_id / "finetuned_model.pth" for each in ("none", "runs")))


@pytest.mark.slow
def test_ray_goes_on_with_killed_workers_runs_and_equals_one_process(
    ray, run_all, flags, tmp_path, monkeypatch, when_runs_are_saved
):
    persons = "nan_labels,no_labels,person_003,person_004"
    flags, lost, lose = [*flags, "--num_steps", 60, "--persons", persons], [], Work.lose

    def kill(folders) -> None:
        from ray._private.state import actors

        for folder in folders:  # whoever begins anew removes this
            (folder / "samples").mkdir()
            (folder / "samples/step_999999.png").touch()
        for each in actors().values():
            if each["State"] == "ALIVE" and each.get("Pid"):
                os.kill(each["Pid"], signal.SIGKILL)

    def counted(work: Work, person_id: str, *about) -> None:
        lost.append(person_id)
        lose(work, person_id, *about)

    monkeypatch.setattr(Work, "lose", counted)
    when_runs_are_saved(kill)
    outcome = run_all(*flags, "--engine", "ray")
    assert outcome.code == 3, outcome
    records = records_in(tmp_path / "runs")
    assert [record["status"] for record in records.values()] == [FAILED] * 2 + [FINISHED] * 2
    gone_on_with = {path.parent.parent.name for path in tmp_path.glob("runs/*/samples/step_999999.png")}
    assert gone_on_with & set(lost), "killed, and not begun anew"
    assert_as_undisturbed(run_all, flags, tmp_path, gone_on_with)


@pytest.mark.slow
def test_ray_saves_every_run_after_ctrl_c(ray, run_all, flags, tmp_path, when_runs_are_saved):
    flags, stopped = [*flags, "--num_steps", 60, "--persons", "person_003,person_004"], []

    def stop(folders) -> None:
        stopped.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    when_runs_are_saved(stop)
    outcome = run_all(*flags, "--engine", "ray")
    seconds = time.monotonic() - stopped[0]  # 8 for the runs at most; a busy machine takes its time for the rest
    assert outcome.code == 130 and seconds < 15, (seconds, outcome)
    assert "not run yet" in (tmp_path / "runs/cohort.html").read_text()
    assert list(tmp_path.glob("runs/*/resume.pth"))
    run_all(*flags, "--engine", "ray", ok=True)
    assert_as_undisturbed(run_all, flags, tmp_path, ["person_003", "person_004"])


@pytest.mark.slow
def test_ray_that_has_no_room_or_no_gpu(ray, run_all, flags):
    assert_one_line(run_all(*flags, "--engine", "ray", "--cpus_per_person", 64), "64 CPUs", "--cpus_per_person")
    assert ray.get(ray.remote(lambda: os.environ.get("CUDA_VISIBLE_DEVICES")).remote()) == ""


@pytest.mark.slow
def test_slurm_jobs_through_submitits_local_executor(run_all, flags, tmp_path):
    pytest.importorskip("submitit")
    settings = tmp_path / "local.yaml"
    settings.write_text("cohort_params: {slurm: {cluster: local, timeout_min: 5}, persons_per_job: 3}\n")
    outcome = run_all("--config", settings, *flags, "--engine", "slurm", "--persons", "person_003,person_004,no_labels")
    assert outcome.code == 3, outcome
    statuses = {person_id: record["status"] for person_id, record in records_in(tmp_path / "runs").items()}
    assert statuses == {"person_003": FINISHED, "person_004": FINISHED, "no_labels": FAILED}


def test_what_cannot_start(run_all, flags, tmp_path):
    assert_one_line(run_all(*flags, "--persons", "person_9"), "person_9", "inspect")
    assert_one_line(run_all(*flags, "--split", "val"), "split")
    assert_one_line(run_all(*flags, "--person_id", "person_001"), "--persons")
    assert not (tmp_path / "runs").exists()


def test_files_of_somebody_else_in_a_persons_folder(run_all, flags, tmp_path):
    page = tmp_path / "runs/person_004/report.html"
    page.parent.mkdir(parents=True)
    page.write_text("dear")
    flags = [*flags, "--num_steps", 1, "--engine", "none", "--persons", "person_004"]
    assert run_all(*flags).code == 3 and page.read_text() == "dear"
    assert "which no run wrote" in records_in(tmp_path / "runs")["person_004"]["reason"]
    run_all(*flags, "--overwrite", ok=True)
    assert page.read_text() != "dear"


@pytest.mark.parametrize("name", ["cohort.csv", "cohort.jsonl", "cohort.html"])
def test_a_file_of_somebody_else_in_the_place_of_the_cohorts(name, run_all, flags, tmp_path):
    own = tmp_path / "runs" / name
    own.parent.mkdir()
    own.write_text("participant,age\n7,31\n")
    assert_one_line(
        run_all(*flags, "--engine", "none"), f"{name} exists", "does not look like a cohort's file", "--save_dir"
    )
    assert own.read_text() == "participant,age\n7,31\n" and os.listdir(own.parent) == [name]


@pytest.mark.parametrize("name", ["cohort.csv", "cohort.jsonl", "cohort.html"])
def test_a_file_of_somebody_else_beside_a_cohorts(name, run_all, flags, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    CohortFiles(folder, ["a"]).write()
    (folder / "cohort.html").write_text("<title>1 person: vaegaze cohort</title>")
    before = sorted(os.listdir(folder))
    (folder / name).write_text("participant,age\n7,31\n")
    assert_one_line(
        run_all(*flags, "--engine", "none"), f"{name} exists", "does not look like a cohort's file", "--save_dir"
    )
    assert (folder / name).read_text() == "participant,age\n7,31\n" and sorted(os.listdir(folder)) == before


def test_a_folder_in_the_place_of_a_persons_file(run_all, flags, tmp_path):
    flags = [*flags, "--num_steps", 1, "--engine", "none", "--persons", "person_003,person_004"]
    run_all(*flags, ok=True)
    folder, model = tmp_path / "runs/person_004/report.html", tmp_path / "runs/person_003/finetuned_model.pth"
    folder.unlink()
    folder.mkdir()
    assert_one_line(run_all(*flags, "--overwrite"), "report.html is a folder", "--save_dir")
    assert model.exists() and folder.is_dir()


def test_that_a_single_run_names_its_person_is_no_matter(tmp_path):
    settings = tmp_path / "of_a_run.yaml"
    settings.write_text("oneshot_params: {gazecapture_params: {hdf_path: a.h5, random_person: false}}\n")
    assert resolve(CohortConfig, str(settings)).config.cohort_params.persons is None


def test_slurm_that_cannot_start(run_all, flags, tmp_path):
    pytest.importorskip("submitit")
    flags, settings = [*flags, "--engine", "slurm"], tmp_path / "local.yaml"
    if shutil.which("srun") is None:
        assert_one_line(run_all(*flags), "srun")
    settings.write_text("cohort_params: {slurm: {cluster: local, slurm_partitoin: gpu}}\n")
    assert_one_line(run_all("--config", settings, *flags), "slurm_partitoin")
    assert_one_line(run_all(*flags, "--estimator", tmp_path / "nothing.pth"), "nothing.pth")


def test_which_persons(world, tmp_path):
    path, listed = tmp_path / "gaze.h5", tmp_path / "persons.txt"
    shutil.copy(world.hdf_path, path)
    with h5py.File(path, "a") as file:
        for number, split in enumerate(("train", "val", "test", "val"), 1):
            file[f"person_00{number}"].attrs["split"] = split
    listed.write_text("person_004\n\nperson_001\nperson_004\n")

    def chosen(**how) -> list[str]:
        return persons_to_run(str(path), CohortParams(**how))

    assert chosen(split="val") == ["person_002", "person_004"]
    assert chosen(persons_file=str(listed)) == ["person_004", "person_001"]
    assert chosen(persons="person_003, person_001") == ["person_003", "person_001"]
    assert chosen(max_persons=3) == ["person_001", "person_002", "person_003"]
    assert chosen(split="val", max_persons=1) == ["person_002"]


def test_a_finished_run_that_kept_other_results_stays(run_all, flags, tmp_path):
    flags = [*flags, "--num_steps", 1, "--engine", "none", "--persons"]
    run_all(*flags, "person_003,person_004", ok=True)
    before, model = records_in(tmp_path / "runs"), tmp_path / "runs/person_003/finetuned_model.pth"
    resume = model.with_name("resume.pth")
    resume.touch()  # as it stays if the worker is killed just before it removes it
    run_all(*flags, "person_003,person_004", ok=True)
    assert not resume.exists()

    nobody = run_all(*flags, "person_003,person_004", "--save", "adapter")
    assert_one_line(nobody, "person_003 and 1 more", "save was 'full', now 'adapter'", "--overwrite")
    assert records_in(tmp_path / "runs") == before and model.exists()
    one = run_all(*flags, "person_002,person_003", "--save", "adapter")
    assert one.code == 3 and "2 persons\n" in one.out and "person_003: the finished run had other" in one.err, one
    records = records_in(tmp_path / "runs")
    assert [records[person_id]["status"] for person_id in ("person_002", "person_003")] == [FINISHED, FAILED]
    assert model.exists()


def test_ctrl_c_ends_a_run_also_while_it_is_measured_and_drawn(run_all, flags, tmp_path, monkeypatch):
    flags, baselines = [*flags, "--engine", "none", "--persons", "person_004"], recorder.measure_baselines
    with monkeypatch.context() as patched:
        signal_at_step(patched, 3, signal.SIGINT)
        assert run_all(*flags).code == 130
    assert "1 not run yet" in (tmp_path / "runs/cohort.html").read_text()

    def interrupted(*about):
        signal.raise_signal(signal.SIGINT)
        return baselines(*about)

    with monkeypatch.context() as patched:
        patched.setattr(recorder, "measure_baselines", interrupted)
        assert run_all(*flags).code == 130
    folder = tmp_path / "runs/person_004"
    assert (folder / "resume.pth").exists() and not (folder / "gazes.png").exists()
    run_all(*flags, ok=True)


def test_what_to_do_is_said_where_no_worker_can_start(run_all, flags, tmp_path):
    """Also if that shows in a worker's process; and no empty table is left."""
    pytest.importorskip("ray")
    flags = [*flags, "--vgg_loss", 0.1, "--vgg_weights", tmp_path / "no.pth"]
    for engine in ("ray", "none"):
        assert_one_line(run_all(*flags, "--engine", engine), "--vgg_loss 0")
        assert not list((tmp_path / "runs").glob("cohort*"))


@pytest.mark.parametrize(
    ("engine", "flag"), [("none", "--jobs"), ("ray", "--persons_per_job"), ("slurm", "--gpus_per_person")]
)
def test_a_flag_of_another_engine_is_refused(run_all, flags, engine, flag):
    assert_one_line(run_all(*flags, "--engine", engine, flag, 1), flag, f"does not apply to engine {engine}")


def test_a_chosen_gpu_is_computed_on_without_ray(run_all, flags, capsys):
    pytest.importorskip("ray")
    assert chosen_engine("auto", None, "cuda:1") == "none" and capsys.readouterr().out.count("\n") == 1
    outcome = run_all(*flags, "--device", "cuda:7")
    assert outcome.code == 2 and "cuda:7 was requested" in outcome.err, outcome
    assert_one_line(run_all(*flags, "--device", "cuda:7", "--address", "auto"), "--device cuda")


@pytest.mark.parametrize(
    ("engine", "address", "warned"),
    [("none", None, True), ("ray", None, True), ("ray", "far", False), ("slurm", None, False)],
)
def test_bf16_where_it_is_emulated_is_warned_of_once(engine, address, warned, run_all, flags, tmp_path, monkeypatch):
    """Wherever this machine is known to compute."""
    monkeypatch.setattr(device, "bf16_slowdown", lambda name: 89.0)
    monkeypatch.setattr(train_all, "chosen_engine", lambda *asked: engine)
    monkeypatch.setattr(train_all, "start_engine", lambda *given, **callbacks: None)
    where = () if address is None else ("--address", address)
    outcome = run_all(*flags, "--precision", "bf16", *where)
    assert outcome.code == 0, outcome
    assert outcome.out.count("emulates bf16: convolutions take 89 times as long as in fp32") == warned
    assert "emulates" not in run_all(*flags, "--precision", "fp32", *where).out


def test_a_worker_stays_with_its_group():
    work = Work(["a1", "a2", "a3", "b1", "b2", "c1"], 0, lambda record: None, group_of=lambda task: task[0])
    assert (work.take(), work.take()) == ("a1", "b1"), "each worker begins with a group of its own"
    work.end(Record("b1", FINISHED))
    assert work.take("b1") == "b2"
    work.lose("a1", "killed")
    assert work.take() == "a2", "a new worker"
    work.end(Record("b2", FINISHED))
    assert work.take("b2") == "c1"
    work.end(Record("c1", FINISHED))
    assert work.take("c1") == "a3", "better help than wait"
    work.end(Record("a2", FINISHED))
    assert (work.take("a2"), work.take("c1")) == ("a1", None)


def test_a_person_is_retried_then_given_up():
    ended = []
    work = Work(["a", "b"], 1, ended.append)
    assert [work.take(), work.take(), work.take()] == ["a", "b", None]
    work.end(Record("a", FAILED, "bad"))
    assert not ended and work.take() == "a"
    work.end(Record("a", FAILED, "bad"))
    assert [record.id for record in ended] == ["a"]
    for _ in range(LOST_WORKERS):
        work.lose("b", "killed")
        assert work.take() == "b"
    work.lose("b", "killed")
    assert [record.id for record in ended] == ["a", "b"] and not work.waiting and not work.running


def test_lines_of_an_earlier_cohort_are_not_lost(run_all, flags, tmp_path):
    flags = [*flags, "--num_steps", 1, "--engine", "none", "--persons"]
    run_all(*flags, "person_004", ok=True)
    before = records_in(tmp_path / "runs")
    for more in ((), ("--overwrite",)):
        run_all(*flags, "person_003", *more, ok=True)
        records = records_in(tmp_path / "runs")
        assert list(records) == ["person_003", "person_004"] and records["person_004"] == before["person_004"]
        assert (tmp_path / "runs/cohort.csv").read_text().count("\nperson_") == 2
    begin = '{"id": "a", "status": "failed", '
    for damaged in ('{"id": no', '{"id": [1], "status": "failed"}', begin + '"seconds": NaN}', begin + '"after": 5}'):
        (tmp_path / "runs/cohort.jsonl").write_text(f"{damaged}\n")
        run_all(*flags, "person_003", ok=True)
        assert list(records_in(tmp_path / "runs")) == ["person_003"]
