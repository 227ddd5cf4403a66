"""What the engines do when nodes, jobs and workers fail: Ray and SLURM are stood in for, their errors are real."""

import os
import signal
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import process_restored

from vaegaze.config.cohort import CohortParams
from vaegaze.errors import UserError
from vaegaze.models.device import cap_memory
from vaegaze.runs.cohort import FAILED, FINISHED, LOST_WORKERS, Record, Work
from vaegaze.runs.folder import RunFolder

PERSONS = ["a", "b", "c", "d", "e", "f"]


def finished(person_id: str) -> Record:
    return Record(person_id, FINISHED)


@pytest.fixture
def ended() -> dict[str, Record]:
    return {}


@pytest.fixture
def work(ended) -> Work:
    return Work(PERSONS, 1, lambda record: ended.update({record.id: record}))


def statuses(ended: dict[str, Record]) -> dict[str, str]:
    return {person_id: ended[person_id].status for person_id in sorted(ended)}


def test_a_share_caps_the_memory_of_the_gpu(monkeypatch):
    """PyTorch itself judges the arguments; only what asks the driver is stood in for."""
    asked = []
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch._C, "_cuda_setMemoryFraction", lambda *given: asked.append(given), raising=False)
    for device, share in (("cuda", 0.25), ("cuda", 1.0), ("cuda", None), ("cpu", 0.25)):
        cap_memory(torch.device(device), share)
    assert asked == [(0.25, 0)]


@pytest.mark.gpu
def test_a_real_gpu_takes_the_cap():
    cap_memory(torch.device("cuda"), 0.25)
    try:
        assert torch.cuda.get_per_process_memory_fraction() == 0.25
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


# ---------------------------------------------------------------------------------------------------------------- Ray


@pytest.fixture
def on_ray():
    pytest.importorskip("ray")
    from vaegaze.runs.engines import on_ray

    return on_ray


@pytest.fixture
def run_on_ray(on_ray, monkeypatch, work):
    """Runs the persons on `count` actors. `start(number)` and `run(number, task)` say what the actor of that number
    does; starts end first, and of several runs that with the lowest `haste(number)`."""

    def run(start, run, count=2, haste=lambda number: number) -> int:
        made = []

        def rank(result) -> tuple:
            return result.func is run, haste(result.number)

        def make():
            made.append(number := len(made))

            def call(what):
                def remote(*given):
                    result = partial(what, number, *given)
                    result.number = number
                    return result

                return SimpleNamespace(remote=remote)

            return SimpleNamespace(start=call(lambda number, job, shared: start(number)), run=call(run))

        fake = SimpleNamespace(
            put=lambda value: value,
            get=lambda result: result(),
            wait=lambda results, **how: (sorted(results, key=rank)[:1], []),
            kill=lambda actor: None,
            remote=lambda kind: SimpleNamespace(options=lambda **how: SimpleNamespace(remote=make)),
        )
        monkeypatch.setattr(on_ray, "ray", fake)
        monkeypatch.setattr(on_ray, "places", lambda cpus, gpus: count)
        on_ray.run_all(SimpleNamespace(threads=1), None, work, gpus=0)
        return len(made)

    return run


def refuse(error: Exception):
    raise error


def test_ray_a_worker_that_cannot_start_later_leaves_the_rest_to_the_others(run_on_ray, on_ray, ended):
    def start(number):
        return ("node", None) if number < 2 else refuse(on_ray.RayActorError(error_msg="no memory"))

    def run(number, person_id):
        return finished(person_id) if number == 0 else refuse(on_ray.RayActorError())

    assert run_on_ray(start, run, haste=lambda number: number == 0) == 2 + on_ray.FAILED_STARTS
    assert statuses(ended) == dict.fromkeys(PERSONS, FINISHED)


def test_ray_a_node_without_what_a_worker_needs_is_done_without(run_on_ray, ended):
    def start(number):
        return "node", None if number else UserError("no such file")

    assert run_on_ray(start, lambda number, person_id: finished(person_id)) == 2
    assert statuses(ended) == dict.fromkeys(PERSONS, FINISHED)


def test_ray_without_any_worker_left_the_rest_is_recorded(run_on_ray, on_ray, ended):
    def run(number, person_id):
        return finished(person_id) if person_id in "ab" else refuse(on_ray.RayActorError())

    run_on_ray(lambda number: ("node", UserError("the disk is gone") if number > 1 else None), run)
    assert statuses(ended) == dict.fromkeys("ab", FINISHED) | dict.fromkeys("cdef", FAILED)
    assert ended["f"].reason == "the disk is gone"


@pytest.mark.parametrize("is_users", (True, False))
def test_ray_nothing_starts(run_on_ray, on_ray, ended, is_users):
    def start(number):
        return (
            ("node", UserError("no such file")) if is_users else refuse(on_ray.RayActorError(error_msg="no such file"))
        )

    with pytest.raises(UserError, match="no such file"):
        run_on_ray(start, None)
    assert not ended


def test_ray_a_bad_node_does_not_fail_everybody(run_on_ray, ended):
    """Two workers of the bad node are always faster than the one of the other."""
    nodes = ("bad", "bad", "good")

    def run(number, person_id):
        return finished(person_id) if number % 3 == 2 else Record(person_id, FAILED, "input/output error")

    run_on_ray(lambda number: (nodes[number % 3], None), run, count=3, haste=lambda number: (number % 3 == 2, number))
    assert statuses(ended) == dict.fromkeys(PERSONS, FINISHED)


def test_ray_a_worker_that_fails_again_and_again_is_replaced(run_on_ray, on_ray, ended):
    def run(number, person_id):
        return finished(person_id) if number else Record(person_id, FAILED, "CUDA error")

    assert run_on_ray(lambda number: ("node", None), run, count=1) == 2
    assert statuses(ended) == dict.fromkeys(PERSONS, FINISHED)


def test_ray_takes_no_more_cores_than_the_process_may(on_ray, monkeypatch):
    monkeypatch.setattr(on_ray, "get_num_cpus", lambda **how: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert on_ray.usable_cpus() == 2
    monkeypatch.setattr(on_ray, "get_num_cpus", lambda **how: 1)  # a container's limit
    assert on_ray.usable_cpus() == 1


# -------------------------------------------------------------------------------------------------------------- SLURM


@pytest.fixture
def on_slurm(monkeypatch):
    pytest.importorskip("submitit")
    from vaegaze.runs.engines import on_slurm

    monkeypatch.setattr(on_slurm, "POLL_SEC", 0)
    monkeypatch.setattr(on_slurm, "ASK_AGAIN_SEC", 0)
    return on_slurm


@pytest.fixture
def run_on_slurm(on_slurm, monkeypatch, work, tmp_path):
    """Runs the persons, three a job. `answer(persons)` is what a job returns, or an error; its log has named those
    that `begun(persons)` returns. Returns the persons of each job."""

    def run(answer, begun=list, jobs=1) -> list[list[str]]:
        given = []

        def submit(function, job, person_ids):
            answered = answer(person_ids)
            if isinstance(answered, on_slurm.submitit.core.utils.FailedJobError):
                raise answered
            given.append(person_ids)
            died = isinstance(answered, Exception) and not isinstance(answered, UserError)
            log = [f"begins {number}: {each}" for number, each in enumerate(begun(person_ids))]
            return SimpleNamespace(
                done=lambda: True,
                exception=lambda: answered if died else None,
                result=lambda: answered,
                stdout=lambda: "\n".join(log),
                cancel=lambda check: None,
                job_id=str(len(given)),
                state="OUT_OF_MEMORY",
                paths=SimpleNamespace(stderr="no such.err", stdout="log.out"),
            )

        monkeypatch.setattr(on_slurm, "_executor", lambda job, cohort: SimpleNamespace(submit=submit))
        params = SimpleNamespace(save_dir=str(tmp_path), device="cpu")
        job = SimpleNamespace(threads=1, resolved=SimpleNamespace(config=SimpleNamespace(oneshot_params=params)))
        on_slurm.run_all(job, work, CohortParams(persons_per_job=3, jobs=jobs))
        return given

    return run


def test_slurm_only_the_person_that_ran_is_to_blame_for_a_dead_job(run_on_slurm, work, ended):
    def answer(person_ids):
        return RuntimeError("killed") if "b" in person_ids else [finished(each) for each in person_ids]

    run_on_slurm(answer, begun=lambda person_ids: person_ids[: person_ids.index("b") + 1] if "b" in person_ids else [])
    assert statuses(ended) == dict.fromkeys("acdef", FINISHED) | {"b": FAILED}
    assert work.lost_workers == {"b": LOST_WORKERS + 1}
    assert "OUT_OF_MEMORY" in ended["b"].reason and "log.out" in ended["b"].reason


def test_slurm_a_job_whose_time_was_up_costs_nobody_a_life(run_on_slurm, work, ended, tmp_path):
    """Each job ends a person and is stopped in the next one's run, which has saved itself."""
    for person_id in PERSONS:
        resume = RunFolder(str(tmp_path), person_id).resume
        resume.parent.mkdir()
        resume.touch()
    run_on_slurm(lambda person_ids: [finished(person_ids[0])])
    assert statuses(ended) == dict.fromkeys(PERSONS, FINISHED) and not work.lost_workers


@pytest.mark.parametrize("has_saved", [False, True])
def test_slurm_a_time_too_short_to_get_further_comes_to_an_end(run_on_slurm, ended, tmp_path, has_saved):
    for person_id in PERSONS if has_saved else ():
        resume = RunFolder(str(tmp_path), person_id).resume
        resume.parent.mkdir()
        resume.touch()
    run_on_slurm(lambda person_ids: [])
    assert statuses(ended) == dict.fromkeys(PERSONS, FAILED)
    assert "too short" in ended["a"].reason


def test_slurm_is_asked_again_after_a_refusal(run_on_slurm, on_slurm, ended):
    """Also with no other job of ours in the queue."""
    answers = iter([True, *[False] * (on_slurm.REFUSALS - 1), True])

    def answer(person_ids):
        if next(answers):
            return [finished(each) for each in person_ids]
        return on_slurm.submitit.core.utils.FailedJobError("sbatch: error: Socket timed out")

    run_on_slurm(answer)
    assert statuses(ended) == dict.fromkeys(PERSONS, FINISHED)


def test_slurm_refuses_a_job_while_others_run(run_on_slurm, on_slurm, ended):
    refusals = iter([False, True, False, True, False])

    def answer(person_ids):
        if next(refusals, False):
            return on_slurm.submitit.core.utils.FailedJobError("sbatch: error: QOSMaxSubmitJobPerUserLimit")
        return [finished(each) for each in person_ids]

    run_on_slurm(answer, jobs=2)
    assert statuses(ended) == dict.fromkeys(PERSONS, FINISHED)


def test_slurm_refuses_every_job(run_on_slurm, on_slurm, work):
    error = on_slurm.submitit.core.utils.FailedJobError("sbatch: error: invalid partition specified: gpus\nsbatch: …")
    with pytest.raises(UserError) as refused:
        run_on_slurm(lambda person_ids: error)
    assert "invalid partition specified: gpus" in str(refused.value) and "\n" not in str(refused.value)
    assert work.waiting == PERSONS and not work.running


def test_slurm_no_job_can_start(run_on_slurm, on_slurm, ended):
    answers = iter([["a", "b", "c"]])
    given = []

    def answer(person_ids):
        given.append(person_ids)
        return UserError("no such file")

    with pytest.raises(UserError, match="no such file"):
        run_on_slurm(answer)
    assert len(given) == on_slurm.FAILED_STARTS and not ended

    def at_first(person_ids):
        return [finished(each) for each in next(answers, [])] or UserError("no such file")

    run_on_slurm(at_first)
    assert statuses(ended) == dict.fromkeys("abc", FINISHED) | dict.fromkeys("def", FAILED)


def test_slurm_a_job_saves_itself_when_its_time_is_up(on_slurm, capsys):
    """By the signal that SLURM sends ahead, for which submitit has a handler that raises."""

    def too_late(signum, frame):
        raise AssertionError("the run was not saved")

    def run(person_id, should_stop):
        if person_id == "b":
            os.kill(os.getpid(), signal.SIGUSR2)
        return None if should_stop() else finished(person_id)

    job = SimpleNamespace(worker=lambda: SimpleNamespace(run=run))
    before = signal.signal(signal.SIGUSR2, too_late)
    try:
        with process_restored():
            records = on_slurm.run_persons(job, ["a", "b", "c"])
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert records == [finished("a")]
    assert capsys.readouterr().out.splitlines() == ["begins 0: 'a'", "begins 1: 'b'"]


@pytest.mark.parametrize(
    ("device", "given", "gpus"),
    [
        ("cuda", {}, 1),
        ("cpu", {}, None),
        ("auto", {"slurm_gres": "shard:1"}, None),
        ("auto", {"slurm_gpus_per_task": 1}, None),
        ("auto", {"gpus_per_node": 2}, 2),
    ],
)
def test_slurm_what_a_job_asks_for(on_slurm, monkeypatch, tmp_path, device, given, gpus):
    asked = {}
    executor = SimpleNamespace(update_parameters=lambda **parameters: asked.update(parameters))
    monkeypatch.setattr(on_slurm.submitit, "AutoExecutor", lambda **where: executor)
    params = SimpleNamespace(save_dir=str(tmp_path), device=device)
    job = SimpleNamespace(threads=2, resolved=SimpleNamespace(config=SimpleNamespace(oneshot_params=params)))
    on_slurm._executor(job, CohortParams(slurm=given))
    assert asked.get("gpus_per_node") == gpus and asked["cpus_per_task"] == 2
    assert asked["timeout_min"] == on_slurm.TIMEOUT_MIN
    on_slurm._executor(job, CohortParams(slurm={"timeout_min": 5}))
    assert asked["timeout_min"] == 5
