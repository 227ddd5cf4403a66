"""Convert published weights to one checkpoint, and a checkpoint back to diffusers' format.

    vaegaze convert --vae PATH --unet PATH --gaze_mlp PATH --output checkpoints/full.pth
    vaegaze convert --checkpoint checkpoints/full.pth --to_diffusers DIR

PATH is a folder as diffusers writes it, or a file: `.safetensors`, `.bin` or `.pth`.
"""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from vaegaze.commands.outputs import refuse_model_name, refuse_output
from vaegaze.commands.running import run_with_settings
from vaegaze.config import shared
from vaegaze.config.tree import option, show
from vaegaze.errors import UserError, plain
from vaegaze.files import write_text
from vaegaze.models import GazeMLP, VAEGaze
from vaegaze.models.checkpoint import assemble, load_checkpoint, save_checkpoint
from vaegaze.models.diffusers.files import (
    OWN_FILE,
    TRAINED_ON,
    UPSTREAMS,
    WEIGHTS,
    Source,
    open_source,
    own_keys_of,
    stated_info,
    upstreams_beside,
)
from vaegaze.models.diffusers.options import covered_by_autoencoder, covered_by_unet
from vaegaze.models.diffusers.parts import NOT_IN_SHAPES, OWN_OPTION, PARTS, WORDS, config_of, keywords_of
from vaegaze.models.tensor_files import require_safetensors, save_safetensors, state_of

WITH_CHECKPOINT = {"checkpoint", "base", "output", "to_diffusers"}  # the only settings allowed with --checkpoint


@dataclass(frozen=True)
class ConvertParams:
    """What to read, and what to write"""

    vae: str | None = option(None, help="the autoencoder: folder or file", metavar="PATH")
    unet: str | None = option(None, help="the UNet: folder or file", metavar="PATH")
    gaze_mlp: str | None = option(None, help="the gaze MLP, if the UNet's file does not hold it", metavar="PATH")
    new_gaze_mlp: bool = option(False, help="start with a new, untrained gaze MLP")
    ema: bool = option(False, help="take averaged weights (EMA) from files that hold them")
    # None: as the UNet's source states, otherwise as in upstream's model
    image_size: int | None = option(None, low=1, help="side of the model's pictures, px")
    residual: bool | None = option(None, help="the UNet's output is added to the masked latents")
    fill_eyes: bool | None = option(None, help="masked eyes are filled with the colours around them, instead of black")
    seed: int = shared.seed("initialises the new gaze MLP")
    checkpoint: str | None = shared.checkpoint("instead of vae and unet: a whole model, or an adapter")
    base: str | None = shared.base()
    output: str | None = shared.output("the checkpoint to write")
    to_diffusers: str | None = option(None, help="folder for the parts of the checkpoint", metavar="DIR")


@dataclass(frozen=True)
class ConvertConfig:
    """The settings of one conversion."""

    convert_params: ConvertParams = ConvertParams()

    def problems(self, origins):
        """What is missing or contradictory; see `tree.resolve`."""
        params = self.convert_params
        if params.checkpoint is None and params.to_diffusers is not None and params.vae is params.unet is None:
            yield ("convert_params.checkpoint",), "needed with --to_diffusers; give --checkpoint PATH"
        elif params.checkpoint is None:
            for name in ("vae", "unet", "output"):
                if getattr(params, name) is None:
                    yield (f"convert_params.{name}",), f"needed; give --{name} PATH, or a whole model with --checkpoint"
            for name in ("to_diffusers", "base"):
                if getattr(params, name) is not None:
                    yield (
                        (f"convert_params.{name}",),
                        "applies only to --checkpoint; leave it out, or add --checkpoint PATH",
                    )
            if params.new_gaze_mlp and params.gaze_mlp is not None:
                yield ("convert_params.new_gaze_mlp",), "cannot be combined with --gaze_mlp; leave out one of them"
        else:
            for name in (field.name for field in fields(params) if field.name not in WITH_CHECKPOINT):
                if origins[f"convert_params.{name}"] != "default":
                    yield (
                        (f"convert_params.{name}",),
                        "cannot be combined with --checkpoint, which holds it; leave out one",
                    )
            if params.output is None and params.to_diffusers is None:
                yield ("convert_params.to_diffusers",), "needed with --checkpoint; give --to_diffusers DIR, or --output"
            elif params.output is not None and params.to_diffusers is not None:
                output, files = Path(params.output).resolve(), diffusers_files(Path(params.to_diffusers).resolve())
                if any(output in (file, *file.parents) for file in files):
                    keys = ("convert_params.output", "convert_params.to_diffusers")
                    yield keys, f"{params.output} is where --to_diffusers writes to; give another name"


def main(argv: list[str] | None = None) -> int:
    return run_with_settings(
        ConvertConfig,
        lambda resolved, **switches: run(resolved.config.convert_params, **switches),
        argv,
        prog="vaegaze convert",
        description=(__doc__ or "").partition("\n")[0],
        switches=[shared.OVERWRITE],
        less_memory="the whole model must fit into memory",
        advice=shared.advice(
            "checkpoint", "base", "no_adapter", weights="give a folder or a file of weights, see --help"
        ),
    )


def run(params: ConvertParams, *, overwrite: bool) -> None:
    folder = Path(params.to_diffusers) if params.to_diffusers is not None else None
    read = {f"--{name}": getattr(params, name) for name in ("vae", "unet", "gaze_mlp", "checkpoint", "base")}
    outputs = [] if params.output is None else [(Path(params.output), "--output")]
    outputs += [] if folder is None else [(path, "--to_diffusers") for path in diffusers_files(folder)]
    for path, flag in outputs:
        refuse_output(path, flag, overwrite=overwrite, inputs=read)
    if params.output is not None:
        refuse_model_name(Path(params.output), "--output")
    if folder is not None:
        require_safetensors(f"writing {folder}")

    if params.checkpoint is None:
        model, info = put_together(params)
        references = ()
    else:
        checkpoint = load_checkpoint(params.checkpoint, params.base)
        for path, flag in outputs if checkpoint.base else ():
            refuse_output(path, flag, overwrite=overwrite, inputs={"(the adapter's base)": checkpoint.base.path})
        for note in checkpoint.notes:
            print(note)
        model, info, references = checkpoint.model, checkpoint.info, checkpoint.references
    if folder is not None and model.config["vae"].get(OWN_OPTION):
        raise UserError(f"the VAE has a {OWN_OPTION}, which diffusers' AutoencoderKL lacks; leave out --to_diffusers")
    if params.output is not None:
        save_checkpoint(params.output, model, info, references)
        total = sum(parameter.numel() for parameter in model.parameters())
        print(f"✅ {params.output}: {model.canvas.size_text}, {total:,} parameters")
    if folder is not None:
        write_diffusers(folder, model, info)
        if references:
            print(f"   the reference frames are not exported; they stay in {params.checkpoint}")


# ------------------------------------------------------------------------------------------------ from published files


def put_together(params: ConvertParams) -> tuple[VAEGaze, dict]:
    """The model assembled from these files, and its provenance. Prints the origin of each part and value."""
    paths = {part: getattr(params, part) for part in PARTS if getattr(params, part) is not None}
    sources = {part: open_source(path, [part], ema=params.ema) for part, path in paths.items()}
    sources.setdefault("gaze_mlp", sources["unet"])
    if params.ema and not any(source.contents.ema for source in sources.values()):
        raise UserError("ema: none of the files holds averaged weights (EMA); leave out --ema")
    if params.new_gaze_mlp:
        del sources["gaze_mlp"]
    elif "gaze_mlp" not in sources["gaze_mlp"].contents.parts and params.gaze_mlp is None:
        raise UserError(
            f"{params.unet} holds no gaze MLP; give --gaze_mlp PATH, or --new_gaze_mlp to start with an untrained one"
        )

    shape, where_from = settle_shape(params, sources["unet"])
    parts, configs = {}, {}
    for part, source in sources.items():
        if part not in source.contents.parts:
            raise UserError(f"{source.file} holds {source.contents.words}, but no {WORDS[part]}; see --{part}")
        parts[part] = source.contents.parts[part]
        configs[part] = config_of(str(source.file), part, parts[part], source.configs.get(part))
        print(describe(part, source, configs[part]))
    info = {
        TRAINED_ON: "unnamed data",
        **sources["unet"].info,
        "converted_from": {part: str(source.file) for part, source in sources.items()},
    }
    if params.new_gaze_mlp:
        gaze_mlp = new_gaze_mlp(configs["unet"]["cross_attention_dim"], params.seed)
        parts["gaze_mlp"], configs["gaze_mlp"] = state_of(gaze_mlp), {"num_out": configs["unet"]["cross_attention_dim"]}
        info[TRAINED_ON] += f"; its gaze MLP is untrained (initialised with seed {params.seed})"
        print(f"gaze_mlp: new, initialised with seed {params.seed}; train it before use")
    print(where_from)
    return assemble(f"{params.vae} and {params.unet}", shape | configs, parts), info


def settle_shape(params: ConvertParams, unet: Source) -> tuple[dict[str, Any], str]:
    """Options of the whole model and their origin, from the UNet's files, since the UNet was trained with them.

    UserError for flags that contradict those files.
    """
    typed = {key: getattr(params, key) for key in UPSTREAMS if getattr(params, key) is not None}
    if "image_size" in typed and "canvas" in unet.own:
        raise UserError(
            f"{unet.file} belongs to a model with a canvas, as {unet.stated_in['own']} says; leave out --image_size"
        )
    wrong = {key: stated for key, stated in unet.own.items() if key in typed and typed[key] != stated}
    if wrong:
        said = ", ".join(f"{key} {show(stated)} (given: {show(typed[key])})" for key, stated in wrong.items())
        flags = ", ".join(f"--{key}" for key in wrong)
        raise UserError(
            f"{unet.file} belongs to a model with {said}, as {unet.stated_in['own']} says; leave out {flags}"
        )
    upstreams = upstreams_beside(typed | unet.own)
    groups = {"the flags": typed, unet.stated_in.get("own", ""): unet.own, "upstream's model": upstreams}
    shape, lines = {}, ["model:"]
    for place, values in groups.items():
        new = {key: value for key, value in values.items() if key not in shape}
        shape |= new
        lines += [f"  from {place}: {', '.join(f'{key} {show(value)}' for key, value in new.items())}"] if new else []
    return shape, "\n".join(map(plain, lines))


def describe(part: str, source: Source, config: Mapping[str, Any]) -> str:
    """The origin of a part and of each value of its config."""
    state, stated, place = source.contents.parts[part], source.configs.get(part, {}), source.stated_in.get(part, "")
    dtypes = ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()}))
    numbers = sum(tensor.numel() for tensor in state.values())
    lines = [f"{part}: {source.file}, {numbers:,} parameters, {dtypes}"]
    lines += [f"  {choice}" for choice in source.contents.choices(part, "--ema")]
    lines += [f"  {note}" for note in source.notes if part != "gaze_mlp"]  # to which no config of diffusers belongs
    from_shapes = "from the tensors' shapes"
    by_default = "the class's defaults" if part in source.configs else "not stated; published default"
    groups = {f"from {place}": [], from_shapes: [], by_default: []}
    for key, value in config.items():
        origin = f"from {place}" if key in stated else by_default if key in NOT_IN_SHAPES[part] else from_shapes
        groups[origin].append(f"{key} {show(value)}")
    lines += [f"  {origin}: {', '.join(values)}" for origin, values in groups.items() if values]
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
    return [*parts, folder / "unet" / OWN_FILE, folder / "gaze_mlp.safetensors"]


def write_diffusers(folder: Path, model: VAEGaze, info: Mapping[str, Any]) -> None:
    """Folders that diffusers' `from_pretrained` opens, and the gaze MLP as a file beside them."""
    width_px = model.canvas.width_px  # for diffusers, whose sample_size is square and only a hint
    latents_px = width_px >> (len(model.vae.encoder.down_blocks) - 1)
    for part, module, covered, sample_size in (
        ("vae", model.vae, covered_by_autoencoder(len(model.vae.encoder.down_blocks)), width_px),
        ("unet", model.unet, covered_by_unet(len(model.unet.down_blocks)), latents_px),
    ):
        own = {key: model.config[part].get(key, default) for key, default in keywords_of(part).items()}
        config = {"_class_name": PARTS[part].__name__, **own, **covered, "sample_size": sample_size}
        save_safetensors(folder / part / WEIGHTS, state_of(module))
        write_text(folder / part / "config.json", json.dumps(config, indent=2, allow_nan=False) + "\n")
    own = {**own_keys_of(model.config), **stated_info(info)}
    write_text(folder / "unet" / OWN_FILE, json.dumps(own, indent=2) + "\n")
    save_safetensors(folder / "gaze_mlp.safetensors", state_of(model.gaze_mlp))

    flags = ["--vae", folder / "vae", "--unet", folder / "unet", "--gaze_mlp", folder / "gaze_mlp.safetensors"]
    print(f"✅ {folder / 'vae'} and {folder / 'unet'} for diffusers, {folder / 'gaze_mlp.safetensors'}")
    if model.residual:
        print("   residual: the UNet's output is to be added to the masked latents")
    if model.fill_eyes:
        print("   fill_eyes: masked eyes are to be filled with the colours around them, not painted black")
    print(f"   to convert back: vaegaze convert {shlex.join(map(str, flags))} --output PATH")


if __name__ == "__main__":
    sys.exit(main())
