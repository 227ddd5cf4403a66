"""Pre-train a model on rendered persons: `vaegaze pretrain --config configs/pretrain/tiny.yaml`.

On several GPUs, or machines with a shared folder: `torchrun --nproc_per_node 4 -m vaegaze.pretrain --config …`.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import distributed

from vaegaze.commands.autoencoder_card import autoencoder_card
from vaegaze.commands.outputs import refuse_output
from vaegaze.commands.progress import StopSignals, progress_bar
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.config.tree import option, to_yaml
from vaegaze.errors import Interrupted, UserError
from vaegaze.files import atomic_path, write_text
from vaegaze.images.sheets import picture_sheet
from vaegaze.models import VAEGaze, to_pixels
from vaegaze.models.checkpoint import save_autoencoder, save_checkpoint
from vaegaze.models.device import find_device
from vaegaze.models.tensor_files import load_tensors, save_tensors, state_of
from vaegaze.pretraining.averaging import averaged
from vaegaze.pretraining.batches import Batch
from vaegaze.pretraining.loop import (
    PretrainParams,
    Progress,
    held_out_batches,
    phases,
    pretraining_steps,
    redraw_through_vae,
)
from vaegaze.pretraining.photographs import photograph_files, read_photographs
from vaegaze.report.tables import write_loss_curve

RECIPE = "./configs/pretrain/tiny.yaml"  # of the model that ships: read where --config names no other file
FIRST_LOGVAR = -6.0  # latents begin nearly without noise: with as much as signal, the decoder learns nothing at first
RESIDUAL_ENDS = (".conv2", ".proj_out", "attentions.0.to_out.0")  # the last layers of residual branches: begin with 0
PICTURED = 6  # held-out frames


@dataclass(frozen=True)
class ModelParams:
    """The architecture, in diffusers' own keys"""

    image_size: int = option(128, help="side of the pictures, px", low=32, high=1024)
    residual: bool = option(False, help="add the UNet's output to the masked latents")
    fill_eyes: bool = option(False, help="fill masked eyes with the colours around them, instead of black")
    vae: Mapping = option({}, help="AutoencoderKL", flag=False)
    unet: Mapping = option({}, help="UNet2DConditionModel", flag=False)
    gaze_mlp: Mapping = option({}, help="GazeMLP", flag=False)


@dataclass(frozen=True)
class PretrainConfig:
    """The settings of one pre-training."""

    pretrain_params: PretrainParams = PretrainParams()
    model_params: ModelParams = ModelParams()


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        PretrainConfig,
        lambda resolved, **switches: run(resolved.config, resolved.path, **switches),
        argv,
        prog="vaegaze pretrain",
        description="Pre-train a model on rendered persons.",
        switches=[shared.RESUME, shared.OVERWRITE],
        recipe=RECIPE,
        less_memory="give smaller batch sizes",
        advice=shared.advice("device", resume="start anew with --overwrite"),
    )


def run(config: PretrainConfig, path: str, *, resume: bool, overwrite: bool) -> None:
    params, run_dir = config.pretrain_params, Path(config.pretrain_params.save_dir)
    agreed = resume and stored_settings(run_dir) == to_yaml(config)  # when the run began
    refuse_output(Path(params.output), "--output", overwrite=overwrite or agreed)
    device = torch.device(find_device(params.device))
    if params.photographs:
        read_photographs(params.photographs, params.crop_px)  # what is wrong with them is said before anything begins
    first = join_other_processes(device)
    torch.set_num_threads(params.threads)
    torch.manual_seed(params.seed)
    processes = distributed.get_world_size() if distributed.is_initialized() else 1
    model, progress = build_model(config.model_params), Progress(processes)
    if resume:
        progress = load_state(run_dir, config, model)
        if progress.processes != processes:
            raise UserError(f"the run in {run_dir} has {progress.processes} processes; resume it with as many")
    elif (run_dir / "resume.pth").exists() and not overwrite:
        raise UserError(f"{run_dir} holds an interrupted run; give --resume to go on, or --overwrite to start anew")
    elif first:
        names = ("resume.pth", "best.pth", "metrics.jsonl", "curves.png")  # none may be found under other settings
        for earlier in (*(run_dir / name for name in names), *run_dir.glob("samples/step_*.png")):
            earlier.unlink(missing_ok=True)
    if first:
        write_text(run_dir / "config.yaml", to_yaml(config))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        print(f"Settings: {path}, with the flags over it")
        print(f"Pre-training {parameters:,} parameters on rendered persons; the run's folder is {run_dir}")
    # Convolutions are faster with the channels last, on CPUs as well.
    model.to(device, memory_format=torch.channels_last)
    held_out = held_out_batches(params, model.canvas, device)

    stop, bar, phase_shown, seen = StopSignals(), None, None, len(progress.records)
    for phase, loss in pretraining_steps(model, params, progress, held_out):
        stopping = is_any(stop.received is not None, device)
        if first:
            if phase is not phase_shown:
                bar, phase_shown = progress_bar(phase.name, phase.steps, initial=progress.step - 1), phase
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()
            if len(progress.records) > seen:
                seen = len(progress.records)
                with averaged(model, progress.average):
                    report(run_dir, model, params, progress, held_out)
                    if progress.records[-1] is best_record(params, progress):
                        save_tensors(run_dir / "best.pth", state_of(model))
                save_state(run_dir, model, progress)
            elif stopping:
                save_state(run_dir, model, progress)
            if progress.step == phase.steps:
                bar.close()
                print(json.dumps(progress.records[-1]))
        if stopping:
            raise Interrupted(stop.received or signal.SIGTERM, "go on with --resume")  # or another process was told

    if first:
        model.load_state_dict(load_tensors(run_dir / "best.pth", hint="start anew with --overwrite"))
        info = {
            "trained_on": trained_on(params, processes),
            "drops_reference": params.drop_reference > 0,
            "config": to_yaml(config),
            "records": progress.records,
        }
        if [phase.redraw for phase in phases(params)] == [redraw_through_vae]:
            save_autoencoder(params.output, model, info)
            card = autoencoder_card(config, path, model, progress, info["trained_on"])
        else:
            save_checkpoint(params.output, model, info, half=True)
            card = model_card(config, path, model, progress)
        write_text(Path(params.output).with_suffix(".md"), card)
        print(f"✅ {params.output}")
    if distributed.is_initialized():
        distributed.barrier()  # one that leaves while the first still writes can bring the whole run down
        distributed.destroy_process_group()


def join_other_processes(device: torch.device) -> bool:
    """Under torchrun, meet the other processes; True for the one that alone writes and prints."""
    if "LOCAL_RANK" not in os.environ:
        return True
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return distributed.get_rank() == 0


def is_any(flag: bool, device: torch.device) -> bool:
    """Whether it holds in any of the processes: all must stop after the same step."""
    if not distributed.is_initialized():
        return flag
    count = torch.tensor(int(flag), device=device)
    distributed.all_reduce(count)
    return count.item() > 0


def best_record(params: PretrainParams, progress: Progress) -> dict | None:
    """The last phase's record with the best eyes."""
    records = [record for record in progress.records if record["phase"] == phases(params)[-1].name]
    return min(records, key=lambda record: record["held_out_eye_l1"], default=None)


@torch.no_grad()
def report(run_dir: Path, model: VAEGaze, params: PretrainParams, progress: Progress, held_out: list[Batch]) -> None:
    """metrics.jsonl, curves.png and a picture of held-out frames."""
    write_text(run_dir / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in progress.records))
    todo = phases(params)
    done = {phase.name: sum(other.steps for other in todo[:i]) for i, phase in enumerate(todo)}
    history = [record | {"step": done[record["phase"]] + record["step"]} for record in progress.records]
    write_loss_curve(run_dir / "curves.png", history, "pre-training", names=("loss", "eye_l1", "eye_psnr"))

    few = held_out[0]
    pictures = [few.target, model.mask(few.target, few.eye_masks), todo[progress.phase].redraw(model, few)]
    rows = [(str(i), row) for i, row in enumerate(zip(*(to_pixels(picture[:PICTURED]) for picture in pictures)))]
    with atomic_path(run_dir / "samples" / f"step_{history[-1]['step']:06d}.png") as temporary:
        Image.fromarray(picture_sheet(("target", "masked input", "result"), rows)).save(temporary)


def build_model(params: ModelParams) -> VAEGaze:
    """A freshly initialised model (seed torch before); UserError for keys that a part does not know."""
    try:
        model = VAEGaze(asdict(params))
    except (TypeError, ValueError, IndexError, AssertionError) as error:
        raise UserError(f"model_params do not describe a model: {error}") from error
    initialise(model)
    return model


@torch.no_grad()
def initialise(model: VAEGaze) -> None:
    """Starts that train faster than PyTorch's own, which shrink what they are given from layer to layer."""
    for module in (model.vae, model.unet):
        for name, layer in module.named_modules():
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
                torch.nn.init.zeros_(layer.bias)
            if name.endswith(RESIDUAL_ENDS):
                torch.nn.init.zeros_(layer.weight)
                torch.nn.init.zeros_(layer.bias)
    latents = model.vae.post_quant_conv.in_channels
    model.vae.quant_conv.weight[latents:] = 0
    model.vae.quant_conv.bias[latents:] = FIRST_LOGVAR
    model.gaze_mlp.initialise()
    if model.residual:  # begin with the masked latents as they are
        torch.nn.init.zeros_(model.unet.conv_out.weight)


def save_state(run_dir: Path, model: VAEGaze, progress: Progress) -> None:
    content = {"model": state_of(model), "model_config": model.config, "progress": vars(progress)}
    save_tensors(run_dir / "resume.pth", content)


def stored_settings(run_dir: Path) -> str:
    """The run's config.yaml; empty where there is none."""
    path = run_dir / "config.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def load_state(run_dir: Path, config: PretrainConfig, model: VAEGaze) -> Progress:
    """Where the run of these settings stands; only `output` may be another by now."""
    state_path, output_line = run_dir / "resume.pth", re.compile("^  output: .*$", re.MULTILINE)
    stored, wanted = (output_line.sub("", settings) for settings in (stored_settings(run_dir), to_yaml(config)))
    if not state_path.is_file() or stored != wanted:
        raise UserError(f"{run_dir} holds no interrupted run of this very config; start without --resume")
    state = load_tensors(state_path, hint="start anew with --overwrite")
    try:
        model.load_state_dict(state["model"])
        scaling_factor = state["model_config"]["vae"].get("scaling_factor", model.vae.scaling_factor)
        model.vae.scaling_factor = model.config["vae"]["scaling_factor"] = scaling_factor
        return Progress(**state["progress"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"{state_path} is damaged ({type(error).__name__}); start anew with --overwrite") from error


def trained_on(params: PretrainParams, processes: int) -> str:
    drawn = processes * sum(phase.steps * phase.batch_size for phase in phases(params))
    if params.photographs:
        crops = 2 * processes * params.vae_steps * params.vae_batch_size
        files = len(photograph_files(params.photographs))
        return f"{crops:,} crops of {files} photographs; {drawn:,} draws from {params.persons:,} rendered persons"
    return f"rendered persons only ({drawn:,} draws from {params.persons:,} persons; no photograph)"


def model_card(config: PretrainConfig, path: str, model: VAEGaze, progress: Progress) -> str:
    """The page beside the checkpoint, in Markdown, its numbers measured; `path` is the YAML file."""
    params = config.pretrain_params
    records = {record["phase"]: record for record in progress.records}  # of each phase the last one …
    records[phases(params)[-1].name] = best_record(params, progress)  # … but of the last one what is shipped
    rows = [
        (
            phase.name,
            f"{phase.steps:,} × {progress.processes * phase.batch_size} persons"
            + (f" × {phase.gazes} gazes" if phase.gazes > 1 else ""),
            records[phase.name],
        )
        for phase in phases(params)
    ]
    steps = "\n".join(f"| {name} | {steps} | {record['held_out_eye_psnr']:.2f} dB |" for name, steps, record in rows)
    sizes = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in ("vae", "unet", "gaze_mlp")}
    parts = "\n".join(f"| {part} | {size:,} |" for part, size in sizes.items())
    where = "a GPU" if find_device(params.device) == "cuda" else f"{params.threads} CPU threads"
    return f"""# {Path(params.output).name}

A VAE-GAZE model for {config.model_params.image_size} px, stored in half precision. `vaegaze pretrain` wrote
it, and this page.

- **Trained on** {trained_on(params, progress.processes)}. It has seen no real face, and no person of the demo file.
- **Made by** `vaegaze pretrain --config {path}`, with the settings below.
- **Time** {progress.seconds / 60:.0f} minutes of training on {where}, {params.precision}.
- **Reference frames** were dropped {100 * params.drop_reference:.0f} % of the time: it can be fine-tuned on one photo.

| part | parameters |
|---|---|
{parts}
| together | {sum(sizes.values()):,} |

Peak signal-to-noise ratio over the eyes of {params.held_out} rendered frames of persons it was not trained on:

| phase | steps | held-out eyes |
|---|---|---|
{steps}

The first row is the autoencoder redrawing the picture that it is given: the ceiling of all that follows. The last is
the whole model, drawing eyes that were painted over. Gaze errors, SSIM and more, before and after fine-tuning, are
what `vaegaze benchmark` measures; those of the model that ships are in docs/benchmark.md.

```yaml
{to_yaml(config).strip()}
```
"""


if __name__ == "__main__":
    sys.exit(main())
