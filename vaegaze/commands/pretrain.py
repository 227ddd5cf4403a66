"""Pre-train a base model on rendered persons, on data sets, or on both: `vaegaze pretrain --config FILE`.

On several GPUs: `torchrun --nproc_per_node 4 -m vaegaze pretrain --config FILE`.
"""

import json
import signal
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from vaegaze.commands.autoencoder_card import autoencoder_card
from vaegaze.commands.outputs import refuse_model_output, refuse_own_settings
from vaegaze.commands.precision import warn_if_emulated
from vaegaze.commands.progress import StopSignals, progress_bar
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.config.pretrain import RENDERED, PretrainConfig, PretrainParams
from vaegaze.config.tree import to_yaml
from vaegaze.errors import Interrupted, UserError
from vaegaze.files import occupied, write_text
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import save_autoencoder, save_checkpoint
from vaegaze.models.device import autocast, find_device, find_precision, to_device
from vaegaze.models.diffusers.files import DRAWS_FROM_ITSELF
from vaegaze.models.diffusers.parts import PARTS
from vaegaze.models.estimator import load_estimator
from vaegaze.models.tensor_files import load_tensors
from vaegaze.pretraining.base_model import build_base_model
from vaegaze.pretraining.checksums import content_checksum, data_checksum
from vaegaze.pretraining.distributed import Processes, planned_processes
from vaegaze.pretraining.judging import judge_gaze
from vaegaze.pretraining.latent_cache import open_latent_cache
from vaegaze.pretraining.loop import Progress, pretraining_steps
from vaegaze.pretraining.losses import Encode, encode_batch, eye_errors, redraw_through_vae
from vaegaze.pretraining.model_card import Sources, model_card, skipped_counts, skipped_line, trained_on
from vaegaze.pretraining.phases import AUTOENCODER, phases
from vaegaze.pretraining.photographs import read_photographs
from vaegaze.pretraining.plan import plan
from vaegaze.pretraining.sources import (
    DataSet,
    HeldOut,
    held_out_elsewhere,
    held_out_frames,
    open_sources,
)
from vaegaze.runs.folder import check_writable
from vaegaze.runs.pretraining_folder import PretrainFolder, steps_in_all
from vaegaze.runs.tracker import open_tracker

RECIPE = "./configs/pretrain/tiny.yaml"  # of the model that ships: read where --config names no other file
DRY_RUN = ("--dry_run", "print the plan: data, memory, steps; train nothing")


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        PretrainConfig,
        lambda resolved, **switches: run(resolved.config, resolved.path, **switches),
        argv,
        prog="vaegaze pretrain",
        description="Pre-train a base model on rendered persons, on data sets, or on both.",
        switches=[shared.RESUME, shared.OVERWRITE, DRY_RUN],
        recipe=RECIPE,
        less_memory="give smaller batch sizes, or --gradient_checkpointing",
        advice=shared.advice(
            "device",
            "estimator",
            resume="start over with --overwrite",
            other_data="restore them to continue, or start over with --overwrite",
            split="give another --split",
            save_dir="give another --save_dir",
            strangers="give another --save_dir, or --overwrite to replace it",
            in_the_way="move it away, or give another --save_dir",
        ),
    )


def run(config: PretrainConfig, path: str, *, resume: bool, overwrite: bool, dry_run: bool) -> None:
    folder = PretrainFolder(config.pretrain_params.save_dir)
    folder.refuse_folders()
    config = folder.with_choices_of_run(config) if resume else config
    params = config.pretrain_params
    if dry_run:
        print(f"Settings: {path}, with the flags over it")
        config = in_precision(config, planned_precision(params))
        sources = open_sources(params)
        print(plan(config, sources, processes=planned_processes()))
        print("".join(f"{line}\n" for line in held_out_elsewhere(sources)), end="")
        return
    refuse_own_settings(path, folder.config)
    agreed = resume and folder.stored_settings() == to_yaml(config)  # when the run began
    read = {"estimator": params.estimator, **{part: config.model_params.checkpoint_of(part) for part in PARTS}}
    read |= {f"source {name}": name for name in params.sources}
    refuse_model_output(Path(params.output), "--output", overwrite=overwrite or agreed, inputs=read)
    check_writable(folder.path)
    processes = Processes(torch.device(find_device(params.device)))
    alone = occupied(folder.path) if processes.is_first else nullcontext()
    with processes.lost_ones_reported(), alone:
        config = in_precision(config, common_precision(params.precision, processes))
        train(config, path, folder, processes, resume=resume, overwrite=overwrite)
    processes.leave()


def in_precision(config: PretrainConfig, precision: str) -> PretrainConfig:
    return replace(config, pretrain_params=replace(config.pretrain_params, precision=precision))


def planned_precision(params: PretrainParams) -> str:
    """What a run would compute in, which is printed. A plan may be made where the GPU is not."""
    precision, how = params.precision, ""
    if precision == "auto":
        try:
            precision, how = find_precision("auto", find_device(params.device)), ", chosen by auto"
        except UserError:
            if torch.cuda.is_available():
                raise
            precision, how = "bf16", ", assumed of a GPU that is not here"
    print(f"Precision: {precision}{how}")
    return precision


def common_precision(precision: str, processes: Processes) -> str:
    """What `auto` stands for in all processes: bf16 only where each has a device that computes it natively."""
    chosen = processes.gather(find_precision(precision, str(processes.device)))
    return "fp32" if "fp32" in chosen else "bf16"


def train(
    config: PretrainConfig,
    path: str,
    folder: PretrainFolder,
    processes: Processes,
    *,
    resume: bool,
    overwrite: bool,
) -> None:
    params, first, device = config.pretrain_params, processes.is_first, processes.device
    torch.set_num_threads(params.threads)
    if first:
        warn_if_emulated(params.precision, str(device))
    torch.manual_seed(params.seed)
    if params.estimator != "none":
        load_estimator(params.estimator)  # fails early if it is unusable
    sources = open_sources(params)
    if params.photographs:
        read_photographs(params.photographs, params.crop_px)  # fails early if one is unusable
    base = build_base_model(config.model_params)
    data = data_checksum(sources, params.photographs)
    content = content_checksum(sources, params.photographs)
    model, progress = base.model, Progress(processes.count, data, content)
    if resume:
        progress = folder.load(config, model, progress)
    elif folder.state.exists() and not overwrite:
        raise UserError(
            f"{folder.path} holds an interrupted run; give --resume to continue, or --overwrite to start over"
        )
    else:
        if not overwrite:
            folder.refuse_strangers()
        if first:
            folder.clear()
    if first:
        write_text(folder.config, to_yaml(config))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        print(f"Settings: {path}, with the flags over it")
        print(f"Device: {device.type}, precision: {params.precision}")
        print(f"Pre-training {parameters:,} parameters; the run's folder is {folder.path}")
        print("\n".join(["Data:", *(f"  {source.describe()}" for source in sources), *held_out_elsewhere(sources)]))
        if base.origins:
            print(f"Weights:\n{base.table()}")
    # Convolutions are faster with the channels last, on CPUs as well.
    to_device(model, device).to(memory_format=torch.channels_last)
    if params.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    held_out, skipped = held_out_frames(sources, params, model.canvas, device)
    progress.note_skipped(skipped)
    if config.model_params.checkpoint_of("vae") is not None and not progress.records:
        measure_given_vae(model, config, held_out, progress, say=first)

    encode = encode_batch
    if params.latent_cache is not None:
        cache = open_latent_cache(params.latent_cache, model, sources)
        encode = cache.encode
        if first:
            print(f"Latent cache: {cache.path}, {cache.bytes / 2**30:.2f} GB when full")
    follow(config, folder, model, sources, held_out, progress, processes, encode)
    if first:
        finish(config, path, folder, model, sources, held_out, progress, base.table() if base.origins else "")


def measure_given_vae(
    model: VAEGaze, config: PretrainConfig, held_out: list[HeldOut], progress: Progress, *, say: bool
) -> None:
    """Measures how well the given autoencoder redraws held-out eyes, which bounds all later phases."""
    params = config.pretrain_params
    device = next(model.parameters()).device
    with autocast(device.type, params.precision):
        psnr, l1 = eye_errors(model, redraw_through_vae, [batch for each in held_out for batch in each.batches])
    progress.records.append({"phase": AUTOENCODER, "step": 0, "held_out_eye_psnr": psnr, "held_out_eye_l1": l1})
    if say:
        print(f"The given autoencoder redraws held-out eyes with {psnr:.2f} dB, which bounds all later phases")
    if psnr < params.min_vae_eye_psnr:
        raise UserError(
            f"the given autoencoder redraws held-out eyes with {psnr:.2f} dB, less than {params.min_vae_eye_psnr} dB; "
            "give a better one, or lower pretrain_params.min_vae_eye_psnr"
        )


def follow(
    config: PretrainConfig,
    folder: PretrainFolder,
    model: VAEGaze,
    sources: Sources,
    held_out: list[HeldOut],
    progress: Progress,
    processes: Processes,
    encode: Encode,
) -> None:
    """Train to the end, showing progress and saving results."""
    params, first = config.pretrain_params, processes.is_first
    stop, bar, phase_shown = StopSignals(), None, None
    told = skipped_counts(progress) if progress.records else (0, 0)
    empty = [each for source in sources if isinstance(source, DataSet) for each in source.empty]
    logged = max((record["step"] for record in steps_in_all(config, progress.records)), default=0)
    tracker = open_tracker(params.tracker if first else "none", folder.path, after=logged)
    for step in pretraining_steps(model, config, sources, held_out, progress, processes, encode=encode):
        phase = step.phase
        stopping = processes.is_any(stop.received is not None)
        if stopping:
            step.refuse_bad()
            step.settle()
        if first:
            if phase is not phase_shown:
                bar, phase_shown = progress_bar(phase.name, phase.steps, initial=progress.step - 1), phase
            if step.number % params.log_every == 0 or step.number == phase.steps:
                step.refuse_bad()
                bar.set_postfix(loss=f"{step.loss.item():.4f}", refresh=False)
            bar.update()
            if step.measured:
                record = folder.report(config, model, progress, held_out[0].batches[0], empty)
                tracker.log(record["step"], record)
            if step.measured or stopping:
                folder.save(model, progress)
            if progress.step == phase.steps:
                bar.close()
                print(json.dumps(progress.records[-1]))
            if step.measured and skipped_counts(progress) != told:
                told = skipped_counts(progress)
                print(skipped_line(progress), file=sys.stderr)
        if stopping:
            tracker.close()
            raise Interrupted(
                stop.received or signal.SIGTERM, "go on with --resume"
            )  # the signal may have reached another process only
    tracker.close()


def finish(
    config: PretrainConfig,
    path: str,
    folder: PretrainFolder,
    model: VAEGaze,
    sources: Sources,
    held_out: list[HeldOut],
    progress: Progress,
    base_table: str,
) -> None:
    """Save the best weights of the last phase, and write their model card."""
    params = config.pretrain_params
    model.load_state_dict(load_tensors(folder.best, hint="start over with --overwrite"))
    info = {
        "trained_on": trained_on(config, sources, progress.processes),
        "drops_reference": params.drop_reference > 0,
        DRAWS_FROM_ITSELF: RENDERED in params.sources and params.same_frame_reference > 0,
        "config": to_yaml(config),
        "records": progress.records,
    }
    where = "a GPU" if find_device(params.device).startswith("cuda") else f"{params.threads} CPU threads"
    if [phase.name for phase in phases(config)] == [AUTOENCODER]:
        save_autoencoder(params.output, model, info)
        card = autoencoder_card(config, path, model, progress, info["trained_on"], held_out)
    else:
        save_checkpoint(params.output, model, info, half=True)
        gaze = None
        if params.estimator != "none":
            estimator = load_estimator(params.estimator).model.to(next(model.parameters()).device)
            gaze = judge_gaze(model, estimator, held_out)
        facts = {"computed_on": where, "base_table": base_table, "gaze": gaze}
        card = model_card(config, path, model, progress, sources, held_out, **facts)
    write_text(Path(params.output).with_suffix(".md"), card)
    if progress.skipped:
        print(skipped_line(progress))
    print(f"✅ {params.output}")


if __name__ == "__main__":
    sys.exit(main())
