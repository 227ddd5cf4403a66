"""Choosing what runs many tasks, persons or cells, and starting it."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

from vaegaze.config.cohort import INSTALL_SCALE
from vaegaze.errors import UserError

MISSING = {"ray": "ray", "slurm": "submitit"}  # what each engine needs


def chosen_engine(asked: str, address: str | None, device: str) -> str:
    """What `auto` stands for. UserError for an engine that is not installed, or that cannot keep to the device."""
    installed = {engine: find_spec(package) is not None for engine, package in MISSING.items()}
    if asked == "auto" and address is None and not installed["ray"]:
        print(f"⚙️ Ray is not installed ({INSTALL_SCALE}): one after the other, in this process")
        return "none"
    engine = "ray" if asked == "auto" else asked
    if not installed.get(engine, True):
        raise UserError(f"--engine {engine} needs {MISSING[engine]}; {INSTALL_SCALE}, or give --engine none")
    if engine == "ray" and device.startswith("cuda:"):  # Ray would choose the GPU
        if asked == "ray" or address is not None:
            raise UserError("device: Ray gives each task a GPU; give --device cuda, not a number")
        print(f"⚙️ {device} alone: one after the other, in this process; --device cuda takes every GPU, with Ray")
        return "none"
    return engine


def run_here(job, shared, work, **callbacks: Callable) -> None:
    """Run the tasks in this process. UserError if nothing could start."""
    from vaegaze.runs.engines import one_process

    print(f"⚙️ One after the other, in this process; {threads_words(job)}")
    one_process.run_all(job, shared, work, **callbacks)


def run_on_ray(
    job, shared, work, *, address: str | None, device: str, gpus: float, cpus: int | None = None, **callbacks: Callable
) -> None:
    """Run the tasks on Ray, each with a share of `gpus` where the cluster has GPUs and `device` may be one.

    Without an address Ray is this machine's alone, with so many `cpus`. UserError if nothing could start.
    """
    from vaegaze.runs.engines import on_ray

    with on_ray.cluster(address, cpus):
        has_gpus = on_ray.gpus_in_cluster() > 0
        if device == "cuda" and not has_gpus:
            raise UserError("device: the Ray cluster has no GPU", about="device")
        gpus = gpus if has_gpus and device != "cpu" else 0.0
        job = replace(job, gpu_share=gpus or None)
        share = f", {gpus:g} of a GPU" if gpus else ""
        print(f"⚙️ Ray: {on_ray.places(job.threads, gpus)} at once; {threads_words(job)}{share}")
        on_ray.run_all(job, shared, work, gpus=gpus, **callbacks)


def threads_words(job) -> str:
    return f"{job.threads} CPU thread{'s' if job.threads > 1 else ''} each"
