"""The page beside a pre-trained checkpoint, in Markdown, its numbers measured."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaegaze.config.pretrain import PretrainConfig
from vaegaze.config.tree import to_yaml
from vaegaze.models import VAEGaze
from vaegaze.pretraining.phases import phases
from vaegaze.pretraining.photographs import photograph_files
from vaegaze.pretraining.progress import Progress
from vaegaze.pretraining.sources import DataSet, HeldOut, RenderedPersons, measured_on

Sources = Sequence[RenderedPersons | DataSet]


def best_record(progress: Progress, last_phase: str) -> dict | None:
    """The last phase's record with the best eyes."""
    records = [record for record in progress.records if record["phase"] == last_phase]
    return min(records, key=lambda record: record["held_out_eye_l1"], default=None)


def trained_on(config: PretrainConfig, sources: Sources, processes: int) -> str:
    """In one line, for the checkpoint's info."""
    params = config.pretrain_params
    drawn = processes * sum(phase.steps * phase.accumulation * phase.batch_size for phase in phases(config))
    parts = [
        f"{len(source.split.train):,} persons of {Path(source.name).name}"
        if isinstance(source, DataSet)
        else f"{params.persons:,} rendered persons"
        for source in sources
    ]
    if params.photographs:
        crops = 2 * processes * params.vae_steps * params.vae_batch_size
        return f"{crops:,} crops of {len(photograph_files(params.photographs))} photographs; {drawn:,} draws from " + (
            " and ".join(parts)
        )
    only = "rendered persons only " if not any(isinstance(source, DataSet) for source in sources) else ""
    photographs = "; no photograph" if only else ""
    return f"{only}({drawn:,} draws from {' and '.join(parts)}{photographs})".replace(" (", " (", 1).strip()


def ids_checksum(ids: Sequence[str]) -> str:
    """Identifies a split: the first 16 hex digits of the SHA-256 of its ids, sorted, one per line."""
    return hashlib.sha256("\n".join(sorted(ids)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def model_card(
    config: PretrainConfig,
    path: str,
    model: VAEGaze,
    progress: Progress,
    sources: Sources,
    held_out: Sequence[HeldOut],
    *,
    computed_on: str,
    base_table: str = "",
    gaze: Mapping[str, float] | None = None,
) -> str:
    """The card as Markdown. `path` is the YAML file; `gaze` has mean angular errors on val people in degrees."""
    params, todo = config.pretrain_params, phases(config)
    last = todo[-1].name
    records = {record["phase"]: record for record in progress.records}  # the last record of each phase …
    records[last] = best_record(progress, last)  # … except for the last phase, whose shipped weights count
    given = [name for name in records if name not in {phase.name for phase in todo}]
    rows = [(name, "given, frozen", records[name]) for name in given]
    for phase in todo:
        draws = f"{phase.steps:,} × {progress.processes * phase.batch_size * phase.accumulation} persons"
        rows.append((phase.name, draws + (f" × {phase.gazes} gazes" if phase.gazes > 1 else ""), records[phase.name]))
    measured = "\n".join(
        f"| {name} | {steps} | {record['held_out_eye_psnr']:.2f} dB | {record['held_out_eye_l1']:.4f} |"
        for name, steps, record in rows
    )
    sizes = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in ("vae", "unet", "gaze_mlp")}
    parts = "\n".join(f"| {part} | {size:,} |" for part, size in sizes.items())
    frames = sum(
        progress.processes * phase.steps * phase.accumulation * phase.batch_size * (phase.gazes + 1) for phase in todo
    )
    others = "" if progress.processes == 1 else f", {progress.processes} processes"
    return f"""# {Path(params.output).name}

A VAE-GAZE model for {model.canvas.size_text}, stored in half precision. `vaegaze pretrain` wrote
it and this page.

- **Trained on** {trained_on(config, sources, progress.processes)}.
- **Frames seen** {frames:,}, targets and references, repetitions included.
- **Made by** `vaegaze pretrain --config {path}`, with the settings below.
- **Time** {progress.seconds / 60:.0f} minutes of training on {computed_on}, {params.precision}{others}.
- **Reference frames** were dropped {100 * params.drop_reference:.0f} % of the time{_one_photo(params)}.
- **Licence of the data**, as stated by whoever trained: {params.data_licence or "not stated"}.

{_data_table(sources, progress)}

| part | parameters |
|---|---|
{parts}
| together | {sum(sizes.values()):,} |
{_weights_section(base_table)}
Eyes in {measured_on(held_out)} of people who were not trained on: peak signal-to-noise ratio, and mean
absolute difference in [−1, 1].

| phase | steps | held-out eyes | L1 |
|---|---|---|---|
{measured}

The autoencoder's row measures it alone, redrawing its input, which bounds all later phases. The last row is the whole
model, drawing masked eyes.
{_gaze_section(gaze)}
`vaegaze benchmark` measures the effect of fine-tuning; docs/benchmark.md has its results for the shipped model.

```yaml
{to_yaml(config).strip()}
```
"""


def _one_photo(params) -> str:
    return ": it can be fine-tuned on one photo" if params.drop_reference else ""


def _data_table(sources: Sources, progress: Progress) -> str:
    lines = ["| data | split | train | val | test | ids of train and val (SHA-256) |", "|---|---|---|---|---|---|"]
    for source in sources:
        if isinstance(source, DataSet):
            split = source.split
            sums = f"{ids_checksum(split.train)} · {ids_checksum(split.val)}"
            counts = f"{len(split.train):,} | {len(split.val):,} | {len(split.test):,}"
            lines.append(f"| {Path(source.name).name} | {split.source} | {counts} | {sums} |")
        else:
            lines.append(
                f"| {source.name} | by seed | {source.params.persons:,} | others | | seed {source.params.seed} |"
            )
    for source in sources:
        if isinstance(source, DataSet) and (source.split.empty or source.split.unlisted):
            name = Path(source.name).name
            lines.append(
                f"\n{name}: {len(source.split.empty)} persons without readable images or labels, "
                f"{len(source.split.unlisted)} in no split; none of them was used."
            )
    if progress.skipped:
        lines.append(f"\n{skipped_line(progress)}")
    return "\n".join(lines)


def skipped_counts(progress: Progress) -> tuple[int, int]:
    """How many frames are skipped, and how many persons left out."""
    entries = progress.skipped.values()
    return sum(len(entry["rows"]) for entry in entries), sum(entry["left_out"] for entry in entries)


def skipped_line(progress: Progress) -> str:
    """The number of skipped frames and persons, and the first reason."""
    rows, _ = skipped_counts(progress)
    persons = [name for name, entry in progress.skipped.items() if entry["left_out"]]
    first = next(iter(progress.skipped.values()))["why"]
    left_out = f", {len(persons)} persons left out ({', '.join(persons[:3])}{' …' * (len(persons) > 3)})"
    return f"Skipped so far: {rows} frames{left_out if persons else ''}; the first: {first}"


def _weights_section(table: str) -> str:
    return f"\nInitial weights:\n\n```\n{table}\n```\n" if table else ""


def _gaze_section(gaze: Mapping[str, float] | None) -> str:
    if not gaze:
        return ""
    rows = "\n".join(f"| {name} | {error:.2f}° |" for name, error in gaze.items())
    title = "Mean angular error of the gaze that an estimator reads from eyes drawn for val people"
    return f"\n{title}:\n\n| against | |\n|---|---|\n{rows}\n"
