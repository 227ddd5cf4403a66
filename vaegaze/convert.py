"""Bring published weights into one checkpoint, and a checkpoint's weights back to diffusers.

    python -m vaegaze.convert --vae PATH --unet PATH --gaze_mlp PATH --output checkpoints/full.pth
    python -m vaegaze.convert --checkpoint checkpoints/full.pth --to_diffusers DIR

PATH is a folder as diffusers writes it, or a file: `.safetensors`, `.bin` or `.pth`.
"""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vaegaze.command import run_command
from vaegaze.config_flags import FlagParser, read_command
from vaegaze.config_tree import UserError, option, plain, show
from vaegaze.files import probe_folder, write_text
from vaegaze.models import GazeMLP, VAEGaze
from vaegaze.models.checkpoint import FORMAT, assemble, load_checkpoint, save_checkpoint
from vaegaze.models.diffusers_options import covered_by_autoencoder, covered_by_unet
from vaegaze.models.tensor_files import load_tensors, save_safetensors, state_of
from vaegaze.models.upstream import (
    IMAGE_SIZE_PX,
    PARTS,
    UNTOLD,
    WORDS,
    Contents,
    config_of,
    find_parts,
    keywords_of,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"
WEIGHT_FILES = (WEIGHTS, "diffusion_pytorch_model.bin", "pytorch_model.bin")  # of a folder, the first that is there
CONFIG_FILES = ("config.json", "musetalk.json")
MAX_CONFIG_BYTES = 2**20
EMA_NOTES = {  # what diffusers' EMAModel leaves in the config of an averaged copy
    "decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup",
}  # fmt: skip


@dataclass(frozen=True)
class ConvertParams:
    """What is read, and what is written"""

    vae: str | None = option(None, help="the autoencoder: folder or file", metavar="PATH")
    unet: str | None = option(None, help="the UNet: folder or file", metavar="PATH")
    gaze_mlp: str | None = option(None, help="the gaze MLP, where the UNet's file does not hold it", metavar="PATH")
    new_gaze_mlp: bool = option(False, help="start with a new gaze MLP, drawn by the seed")
    ema: bool = option(False, help="where a file holds trained weights and their average (EMA): take the average")
    image_size: int = option(IMAGE_SIZE_PX, low=1, help="side of the pictures that the model is for, px")
    residual: bool = option(False, help="the UNet's output is added to the masked latents")
    fill_eyes: bool = option(False, help="masked eyes are filled with the colours around them, instead of black")
    seed: int = option(0, low=0, high=2**32 - 1, help="draws the new gaze MLP")
    checkpoint: str | None = option(None, help="in place of vae and unet: a whole model, or an adapter", metavar="PATH")
    base: str | None = option(None, help="of an adapter: its base, where that has moved", metavar="PATH")
    output: str | None = option(None, help="the checkpoint to write", metavar="PATH")
    to_diffusers: str | None = option(None, help="folder for the parts of the checkpoint", metavar="DIR")


@dataclass(frozen=True)
class ConvertConfig:
    """The settings of one conversion."""

    convert_params: ConvertParams = ConvertParams()

    def problems(self, origins):
        """What does not go together; see `config_tree.resolve`."""
        params = self.convert_params
        if params.checkpoint is None:
            for name in ("vae", "unet", "output"):
                if getattr(params, name) is None:
                    yield (f"convert_params.{name}",), f"needed; give --{name} PATH, or a whole model with --checkpoint"
            for name in ("to_diffusers", "base"):
                if getattr(params, name) is not None:
                    yield (f"convert_params.{name}",), "has no use without --checkpoint"
            if params.new_gaze_mlp and params.gaze_mlp is not None:
                yield ("convert_params.new_gaze_mlp",), "has no use with --gaze_mlp; leave out one of them"
        else:
            for name in (
                "vae",
                "unet",
                "gaze_mlp",
                "new_gaze_mlp",
                "ema",
                "image_size",
                "residual",
                "fill_eyes",
                "seed",
            ):
                if origins[f"convert_params.{name}"] != "default":
                    yield (f"convert_params.{name}",), "has no use with --checkpoint, which holds it; leave out one"
            if params.output is None and params.to_diffusers is None:
                yield ("convert_params.to_diffusers",), "needed with --checkpoint; give --to_diffusers DIR, or --output"


def main(argv: list[str] | None = None) -> int:
    parser = FlagParser(prog="python -m vaegaze.convert", description=__doc__.splitlines()[0])
    parser.add_argument("--overwrite", action="store_true", help="replace what was written before")

    def work() -> None:
        resolved, switches = read_command(parser, ConvertConfig, argv)
        run(resolved.config.convert_params, **switches)

    return run_command(work, less_memory="the whole model must fit into memory")


def run(params: ConvertParams, *, overwrite: bool) -> None:
    folder = Path(params.to_diffusers) if params.to_diffusers is not None else None
    targets = [Path(params.output)] if params.output is not None else []
    targets += diffusers_files(folder) if folder is not None else []
    refuse_targets(targets, overwrite=overwrite)

    if params.checkpoint is None:
        model, info = put_together(params)
        reference = None
    else:
        checkpoint = load_checkpoint(params.checkpoint, params.base)
        for note in checkpoint.notes:
            print(note)
        model, info, reference = checkpoint.model, checkpoint.info, checkpoint.reference
    if params.output is not None:
        save_checkpoint(params.output, model, info, reference)
        total = sum(parameter.numel() for parameter in model.parameters())
        print(f"✅ {params.output}: {model.image_size} px, {total:,} parameters")
    if folder is not None:
        write_diffusers(folder, model)
        if reference is not None:
            print(f"   the person's reference frame is not among them; it stays in {params.checkpoint}")


def refuse_targets(targets: list[Path], *, overwrite: bool) -> None:
    """UserError for files that are there, and for folders that cannot be written to."""
    for path in targets:
        if path.exists() and not overwrite:
            raise UserError(f"{path} exists; give --overwrite to replace it, or another place")
        if path.is_dir():
            raise UserError(f"{path} is a folder; give the path of a file")
        try:
            probe_folder(path.parent)
        except OSError as error:
            raise UserError(f"cannot write to {path.parent} ({error.strerror}); give another place") from error


# ------------------------------------------------------------------------------------------------ from published files


@dataclass(frozen=True)
class Source:
    """A file of weights, opened."""

    file: Path
    contents: Contents
    configs: dict[str, Any]  # by part, as far as something beside the tensors states them
    stated_in: str


def put_together(params: ConvertParams) -> tuple[VAEGaze, dict]:
    """The model of these files, and what is known of its making. Prints what each part and each value is from."""
    sources = {"vae": open_source(params.vae, params), "unet": open_source(params.unet, params)}
    sources["gaze_mlp"] = sources["unet"] if params.gaze_mlp is None else open_source(params.gaze_mlp, params)
    if params.ema and not any(source.contents.ema for source in sources.values()):
        raise UserError("ema: none of the files holds averaged weights (EMA); leave out --ema")
    if params.new_gaze_mlp:
        del sources["gaze_mlp"]
    elif "gaze_mlp" not in sources["gaze_mlp"].contents.parts and params.gaze_mlp is None:
        raise UserError(
            f"{params.unet} holds no gaze MLP; give --gaze_mlp PATH, or --new_gaze_mlp to start with an untrained one"
        )

    for key in ("residual", "fill_eyes"):  # of a checkpoint of ours: drawn otherwise, its UNet means nothing
        if sources["unet"].configs.get(key, False) and not getattr(params, key):
            raise UserError(f"{params.unet} is of a model with {key}; give --{key}")

    parts, configs = {}, {}
    for part, source in sources.items():
        if part not in source.contents.parts:
            raise UserError(f"{source.file} holds {source.contents.words}, but no {WORDS[part]}; see --{part}")
        parts[part] = source.contents.parts[part]
        configs[part] = config_of(str(source.file), part, parts[part], source.configs.get(part))
        print(describe(part, source, configs[part]))
    info = {
        "trained_on": "data that its files do not name",
        "converted_from": {part: str(source.file) for part, source in sources.items()},
    }
    if params.new_gaze_mlp:
        gaze_mlp = new_gaze_mlp(configs["unet"]["cross_attention_dim"], params.seed)
        parts["gaze_mlp"], configs["gaze_mlp"] = state_of(gaze_mlp), {"num_out": configs["unet"]["cross_attention_dim"]}
        info["trained_on"] += f"; its gaze MLP on nothing (drawn by seed {params.seed})"
        print(f"gaze_mlp: new, drawn by seed {params.seed}; it must be trained before it tells gazes apart")
    shape = {"image_size": params.image_size, "residual": params.residual, "fill_eyes": params.fill_eyes}
    return assemble(f"{params.vae} and {params.unet}", shape | configs, parts), info


def open_source(path: str, params: ConvertParams) -> Source:
    """Find the file, and what states its config. UserError for whatever is none."""
    file = weights_file(Path(path))
    content = load_tensors(file, hint="give a folder or a file of weights, see --help")
    format_ = content.get("format") if isinstance(content, dict) else None
    if isinstance(format_, str) and format_.startswith("vaegaze") and format_ != FORMAT:
        raise UserError(f"{file} has format {plain(format_)!r}, not {FORMAT!r}; give a whole checkpoint or weights")
    contents = find_parts(str(file), content, ema=params.ema)
    if format_ == FORMAT:
        configs = content.get("model_config")
        if not isinstance(configs, dict) or not all(isinstance(configs.get(part), Mapping) for part in PARTS):
            raise UserError(f"{file}: the checkpoint's contents do not describe a VAE-GAZE model")
        return Source(file, contents, configs, "its own model_config")
    for name in CONFIG_FILES:
        config = read_config(file.parent / name)
        for part in contents.parts:
            if part != "gaze_mlp" and config.get("_class_name") == PARTS[part].__name__:
                return Source(file, contents, {part: config}, name)
    return Source(file, contents, {}, "")


def weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    file = next((path / name for name in WEIGHT_FILES if (path / name).is_file()), None)
    if file is None:
        raise UserError(f"{path} holds no {', '.join(WEIGHT_FILES[:-1])} or {WEIGHT_FILES[-1]}; give the file itself")
    return file


def read_config(path: Path) -> dict[str, Any]:
    """A config of diffusers, without what its EMAModel adds; empty where there is none. UserError if it is damaged."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is too large")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({plain(str(error).splitlines()[0])}); mend or remove it") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no mapping of config keys; mend or remove it")
    return {key: value for key, value in config.items() if key not in EMA_NOTES}


def describe(part: str, source: Source, config: Mapping[str, Any]) -> str:
    """Where a part is from, and where each value of its config is."""
    state, stated = source.contents.parts[part], source.configs.get(part, {})
    dtypes = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()}))
    numbers = sum(tensor.numel() for tensor in state.values())
    lines = [f"{part}: {source.file}, {numbers:,} parameters, {dtypes}"]
    lines += [f"  {choice}" for choice in source.contents.choices(part)]
    groups = {source.stated_in: [], "the tensors' shapes": [], "none of these, so as published": []}
    for key, value in config.items():
        told = source.stated_in if key in stated else list(groups)[2 if key in UNTOLD[part] else 1]
        groups[told].append(f"{key} {show(value)}")
    lines += [f"  from {place}: {', '.join(values)}" for place, values in groups.items() if values]
    return "\n".join(map(plain, lines))


def new_gaze_mlp(num_out: int, seed: int) -> GazeMLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        gaze_mlp = GazeMLP(num_out=num_out)
        gaze_mlp.initialise()
    return gaze_mlp


# --------------------------------------------------------------------------------------------------- back to diffusers


def diffusers_files(folder: Path) -> list[Path]:
    parts = [folder / part / name for part in ("vae", "unet") for name in (WEIGHTS, "config.json")]
    return [*parts, folder / "gaze_mlp.safetensors"]


def write_diffusers(folder: Path, model: VAEGaze) -> None:
    """Folders that diffusers' `from_pretrained` opens, and the gaze MLP as a file beside them."""
    latents_px = model.image_size >> (len(model.vae.encoder.down_blocks) - 1)
    for part, module, covered, sample_size in (
        ("vae", model.vae, covered_by_autoencoder(len(model.vae.encoder.down_blocks)), model.image_size),
        ("unet", model.unet, covered_by_unet(len(model.unet.down_blocks)), latents_px),
    ):
        own = {key: model.config[part].get(key, default) for key, default in keywords_of(part).items()}
        config = {"_class_name": PARTS[part].__name__, **own, **covered, "sample_size": sample_size}
        save_safetensors(folder / part / WEIGHTS, state_of(module))
        write_text(folder / part / "config.json", json.dumps(config, indent=2, allow_nan=False) + "\n")
    save_safetensors(folder / "gaze_mlp.safetensors", state_of(model.gaze_mlp))

    flags = ["--vae", folder / "vae", "--unet", folder / "unet", "--gaze_mlp", folder / "gaze_mlp.safetensors"]
    flags += ["--image_size", model.image_size] if model.image_size != IMAGE_SIZE_PX else []
    flags += [flag for flag, given in (("--residual", model.residual), ("--fill_eyes", model.fill_eyes)) if given]
    print(f"✅ {folder / 'vae'} and {folder / 'unet'} for diffusers, {folder / 'gaze_mlp.safetensors'}")
    if model.residual:
        print("   residual: the UNet's output is to be added to the masked latents")
    if model.fill_eyes:
        print("   fill_eyes: masked eyes are to be filled with the colours around them, not painted black")
    print(f"   back again: python -m vaegaze.convert {shlex.join(map(str, flags))} --output PATH")


if __name__ == "__main__":
    sys.exit(main())
