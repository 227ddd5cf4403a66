"""The settings of `vaegaze train_all`: those of a fine-tuning run, and which persons are run where."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vaegaze.config.finetune import Config
from vaegaze.config.tree import option

INSTALL_SCALE = "pip install 'ray>=2.50' submitit"  # by package: an installed program has no requirements file


@dataclass(frozen=True)
class CohortParams:
    """Which persons to fine-tune on, and what runs them."""

    persons: str | None = option(None, help="only these persons, separated by commas", metavar="ID,ID", once=True)
    persons_file: str | None = option(None, help="only the persons in this text file, one a line", metavar="PATH")
    split: str | None = option(
        None, help="only persons whose group in the file has this attribute `split`", metavar="NAME"
    )
    max_persons: int | None = option(None, low=1, help="only the first N persons")
    engine: str = option(
        "auto",
        choices=("auto", "ray", "slurm", "none"),
        help="what runs the persons: Ray, SLURM through submitit, or this process, one after the other; auto takes "
        f"Ray if it is installed ({INSTALL_SCALE})",
        metavar="NAME",
    )
    address: str | None = option(
        None, legal="auto | HOST:PORT", help="a Ray cluster that is running already", metavar="HOST:PORT"
    )
    cpus_per_person: int = option(
        1, low=1, high=1024, help="CPU threads of each run; on a CPU they decide the rounding"
    )
    gpus_per_person: float = option(
        0.25, above=0, high=1, help="with Ray: share of a GPU for each run; it also caps the run's memory"
    )
    retries: int = option(2, low=0, help="further attempts for a person whose run fails")
    persons_per_job: int = option(8, low=1, help="with SLURM: persons that one job runs")
    jobs: int = option(16, low=1, help="with SLURM: jobs at once")
    slurm: Mapping[str, object] = option({}, help="with SLURM: submitit's parameters, such as slurm_partition")


@dataclass(frozen=True)
class CohortConfig(Config):
    """The settings of one fine-tuning run for each of many persons."""

    cohort_params: CohortParams = CohortParams()

    @property
    def of_a_run(self) -> Config:
        """What all the runs share."""
        return Config(self.oneshot_params, self.loss_params)

    def problems(self, origins: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
        random_person = "oneshot_params.gazecapture_params.random_person"  # of a single run
        yield from (problem for problem in super().problems(origins) if random_person not in problem[0])
        run, cohort = "oneshot_params", "cohort_params"
        params = self.cohort_params
        if not self.oneshot_params.use_gazecapture:
            yield (f"{run}.use_gazecapture",), "is false; train_all needs a gaze data set"
        if self.oneshot_params.gazecapture_params.person_id is not None:
            yield (f"{run}.gazecapture_params.person_id",), "cannot be used here; give --persons ID,ID"
        chosen = [name for name in ("persons", "persons_file", "split") if getattr(params, name) is not None]
        if len(chosen) > 1:
            yield tuple(f"{cohort}.{name}" for name in chosen), f"cannot be combined with {' or '.join(chosen[1:])}"
        if params.address is not None and params.engine not in ("auto", "ray"):
            yield (f"{cohort}.address", f"{cohort}.engine"), f"does not apply to engine {params.engine}"
        for name, engine in {"persons_per_job": "slurm", "jobs": "slurm", "gpus_per_person": "ray"}.items():
            # A settings file may serve several engines; a flag is meant now.
            if origins[f"{cohort}.{name}"].startswith("--") and params.engine not in ("auto", engine):
                yield (f"{cohort}.{name}", f"{cohort}.engine"), f"does not apply to engine {params.engine}"
