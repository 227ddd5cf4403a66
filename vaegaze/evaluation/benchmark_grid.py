"""What the benchmark measures: persons, strategies, numbers of images and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from vaegaze.config.benchmark import POOL
from vaegaze.renderer.data_set import person_from_seed
from vaegaze.training.strategies import STRATEGIES

BASE = "base"  # in place of a strategy: nothing is trained, and each frame is its own reference
AUTOENCODER = "autoencoder"  # the true pictures, only encoded and decoded: an upper bound
TRUE = "true"  # the true pictures themselves: what the measures read off these
UNTRAINED = (TRUE, AUTOENCODER, BASE)
FEW = (1, 4, 32)  # numbers of images that every strategy is tried with
CHANGES = (  # one at a time, on val persons
    ("learning_rate", 2e-5),
    ("learning_rate", 2e-4),
    ("learning_rate", 1e-3),
    ("mask_l1_loss", 0.0),
    ("mask_l1_loss", 8.0),
    ("vgg_loss", 0.1),
    ("num_steps", 50),
    ("num_steps", 500),
    ("mirror", False),
)
_SIZES = {  # of a grid: test persons, numbers of images, seeds, val persons
    "small": (2, (0, *FEW), 1, 0),
    "default": (12, (0, 1, 4, 8, 32), 1, 0),
    "full": (12, (0, 1, 2, 4, 8, 16, 32), 3, 6),
}


@dataclass(frozen=True)
class Task:
    """One cell of the grid."""

    split: str
    person: str
    strategy: str
    k: int
    seed: int
    changed: tuple[tuple[str, float | bool], ...] = ()  # settings other than the command's

    @property
    def name(self) -> str:
        changed = "".join(f"_{name}={value:g}" for name, value in self.changed)
        return f"{self.split}_{self.person}_{self.strategy}_{self.k}_{self.seed}{changed}"


def chosen_persons(seed: int, count: int) -> list[int]:
    """Numbers of the first rendered test persons, by turns without glasses and with them."""
    kinds: dict[bool, list[int]] = {False: [], True: []}
    number = 0
    while min(map(len, kinds.values())) < (count + 1) // 2:
        number += 1
        kinds[person_from_seed(seed, number, "test").glasses].append(number)
    return [each for pair in zip(*kinds.values()) for each in pair][:count]


def grid(name: str, seed: int, persons: int | None = None, ks: Sequence[int] | None = None) -> list[Task]:
    """The cells, person by person, so that partial results cover whole persons. None: as many as the grid has."""
    default_persons, default_ks, seeds, val_persons = _SIZES[name]
    ks = sorted(set(default_ks if ks is None else ks) | {0})
    tasks = []
    for number in range(1, val_persons + 1):
        person = f"person_{number:03d}"
        tasks.append(Task("val", person, BASE, 0, 0))
        tasks += [Task("val", person, "selective", POOL, 0, changed) for changed in ((), *((c,) for c in CHANGES))]
    for number in chosen_persons(seed, default_persons if persons is None else persons):
        person = f"person_{number:03d}"
        tasks += [Task("test", person, untrained, 0, 0) for untrained in UNTRAINED]
        for strategy in STRATEGIES if name == "full" else ("selective",):
            for k in filter(None, ks):
                used = range(seeds) if strategy == "selective" else (0,) if k in FEW else ()
                tasks += [Task("test", person, strategy, k, each) for each in used]
    return tasks
