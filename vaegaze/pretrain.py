"""Pre-train a model on rendered persons: `python -m vaegaze.pretrain --config configs/pretrain/tiny.yaml`."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vaegaze.config_flags import FlagParser, read_command
from vaegaze.config_tree import UserError, option, to_yaml
from vaegaze.files import write_text
from vaegaze.models import VAEGaze
from vaegaze.models.checkpoint import load_tensors, save_checkpoint, save_tensors
from vaegaze.pretraining import PretrainParams, Progress, phases, pretraining_steps
from vaegaze.progress import Interrupted, StopSignals, progress_bar

ANGLE_SPREAD_RAD = 0.25  # about the standard deviation of gazes and heads


@dataclass(frozen=True)
class ModelParams:
    """The architecture, in diffusers' own keys"""

    image_size: int = option(128, help="side of the pictures, px", low=32, high=1024)
    residual: bool = option(False, help="add the UNet's output to the masked latents")
    vae: Mapping = option({}, help="AutoencoderKL", flag=False)
    unet: Mapping = option({}, help="UNet2DConditionModel", flag=False)
    gaze_mlp: Mapping = option({}, help="GazeMLP", flag=False)


@dataclass(frozen=True)
class PretrainConfig:
    """The settings of one pre-training."""

    pretrain_params: PretrainParams = PretrainParams()
    model_params: ModelParams = ModelParams()


def main(argv: list[str] | None = None) -> int:
    parser = FlagParser(prog="python -m vaegaze.pretrain", description=__doc__)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--overwrite", action="store_true", help="start anew over an earlier run")
    try:
        resolved, switches = read_command(parser, PretrainConfig, argv)
        run(resolved.config, resolved.path, **switches)
    except (UserError, OSError) as error:  # OSError: a full disk, say
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # a second Ctrl-C
        return 130
    except Interrupted as stop:
        print(f"{stop}; go on with --resume", file=sys.stderr)
        return stop.exit_code
    return 0


def run(config: PretrainConfig, path: str | None, *, resume: bool, overwrite: bool) -> None:
    params, run_dir = config.pretrain_params, Path(config.pretrain_params.save_dir)
    if Path(params.output).exists() and not (overwrite or resume):
        raise UserError(f"{params.output} exists; give --overwrite to replace it, or another --output")
    torch.set_num_threads(params.threads)
    torch.manual_seed(params.seed)
    model, progress = build_model(config.model_params), Progress()
    if resume:
        progress = load_state(run_dir, config, model)
    elif (run_dir / "resume.pth").exists() and not overwrite:
        raise UserError(f"{run_dir} holds an interrupted run; give --resume to go on, or --overwrite to start anew")
    else:
        (run_dir / "resume.pth").unlink(missing_ok=True)  # none may be found under another run's settings
    write_text(run_dir / "config.yaml", to_yaml(config))

    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"Pre-training {parameters:,} parameters on rendered persons; the run's folder is {run_dir}")
    stop, bar, phase_shown, saved_records = StopSignals(), None, None, len(progress.records)
    for phase, loss in pretraining_steps(model, params, progress):
        if phase is not phase_shown:
            bar, phase_shown = progress_bar(phase.name, phase.steps, initial=progress.step - 1), phase
        bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        bar.update()
        if len(progress.records) > saved_records or stop.received:
            save_state(run_dir, model, progress)
            write_text(run_dir / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in progress.records))
            saved_records = len(progress.records)
        stop.check()
        if progress.step == phase.steps:
            bar.close()
            print(json.dumps(progress.records[-1]))

    info = {
        "trained_on": trained_on(params),
        "drops_reference": params.drop_reference > 0,
        "config": to_yaml(config),
        "records": progress.records,
    }
    save_checkpoint(params.output, model, info, half=True)
    write_text(Path(params.output).with_suffix(".md"), model_card(config, path, model, progress))
    print(f"✅ {params.output}")


def build_model(params: ModelParams) -> VAEGaze:
    """A freshly initialised model (seed torch before); UserError for keys that a part does not know."""
    try:
        model = VAEGaze(asdict(params))
    except (TypeError, ValueError, IndexError, AssertionError) as error:
        raise UserError(f"model_params do not describe a model: {error}") from error
    for branch in (model.gaze_mlp.head_mlp, model.gaze_mlp.gaze_mlp):
        linears = [layer for layer in branch.net if isinstance(layer, torch.nn.Linear)]
        for linear in linears:  # PyTorch's own start shrinks from layer to layer: all gazes would look the same
            torch.nn.init.kaiming_normal_(linear.weight, a=0.01)
        with torch.no_grad():
            linears[0].weight /= ANGLE_SPREAD_RAD
    if model.residual:  # begin with the masked latents as they are
        torch.nn.init.zeros_(model.unet.conv_out.weight)
        torch.nn.init.zeros_(model.unet.conv_out.bias)
    return model


def save_state(run_dir: Path, model: VAEGaze, progress: Progress) -> None:
    content = {"model": model.state_dict(), "model_config": model.config, "progress": vars(progress)}
    save_tensors(run_dir / "resume.pth", content)


def load_state(run_dir: Path, config: PretrainConfig, model: VAEGaze) -> Progress:
    state_path, config_path = run_dir / "resume.pth", run_dir / "config.yaml"
    there = state_path.is_file() and config_path.is_file()
    if not there or config_path.read_text(encoding="utf-8") != to_yaml(config):
        raise UserError(f"{run_dir} holds no interrupted run of this very config; start without --resume")
    state = load_tensors(state_path, hint="start anew with --overwrite")
    model.load_state_dict(state["model"])
    model.vae.scaling_factor = model.config["vae"]["scaling_factor"] = state["model_config"]["vae"]["scaling_factor"]
    return Progress(**state["progress"])


def trained_on(params: PretrainParams) -> str:
    drawn = sum(phase.steps * phase.batch_size for phase in phases(params))
    return f"rendered persons only ({drawn:,} draws from {params.persons:,} persons; no photograph)"


def model_card(config: PretrainConfig, path: str | None, model: VAEGaze, progress: Progress) -> str:
    """The page beside the checkpoint, in Markdown, its numbers measured; `path` is the YAML file, if there was one."""
    params = config.pretrain_params
    last = {record["phase"]: record for record in progress.records}
    rows = [
        (phase.name, f"{phase.steps:,} × {phase.batch_size} persons × {phase.gazes} gazes", last[phase.name])
        for phase in phases(params)
    ]
    steps = "\n".join(f"| {name} | {steps} | {record['held_out_eye_psnr']:.2f} dB |" for name, steps, record in rows)
    sizes = {part: sum(p.numel() for p in getattr(model, part).parameters()) for part in ("vae", "unet", "gaze_mlp")}
    parts = "\n".join(f"| {part} | {size:,} |" for part, size in sizes.items())
    return f"""# {Path(params.output).name}

A VAE-GAZE model for {config.model_params.image_size} px, stored in half precision. `python -m vaegaze.pretrain` wrote
it, and this page.

- **Trained on** {trained_on(params)}. It has seen no real face, and no person of the demo file.
- **Made by** `python -m vaegaze.pretrain{f" --config {path}" if path else ""}`, with the settings below.
- **Time** {progress.seconds / 60:.0f} minutes of training on {params.threads} CPU threads.
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
the whole model, drawing eyes that were painted over.

```yaml
{to_yaml(config).strip()}
```
"""


if __name__ == "__main__":
    sys.exit(main())
