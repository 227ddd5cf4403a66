"""Published weights: finds the three parts of a VAE-GAZE model in a file by the names of its tensors.

The keys above a part (`model_state_dict`, `unet_state_dict`, `state_dict`, `module.`, …) do not matter: a part is
whatever shares its prefix with the one tensor that marks it. Tensor shapes fill in what its config does not state.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vaegaze.errors import UserError, plain
from vaegaze.models.autoencoder import AutoencoderKL
from vaegaze.models.diffusers.options import WITHOUT_EFFECT, covered_by_autoencoder, covered_by_unet
from vaegaze.models.gaze_mlp import GazeMLP
from vaegaze.models.tensor_files import first_line, refuse_mismatch, shapes_of
from vaegaze.models.unet import UNet2DConditionModel

PARTS = {"vae": AutoencoderKL, "unet": UNet2DConditionModel, "gaze_mlp": GazeMLP}
WORDS = {"vae": "VAE", "unet": "UNet", "gaze_mlp": "gaze MLP"}
MARKS = {
    "vae": "encoder.conv_in.weight",
    "unet": "time_embedding.linear_1.weight",
    "gaze_mlp": "head_mlp.net.0.weight",
}
TOPS = {  # first components of a part's tensor names
    "vae": ("encoder", "decoder", "quant_conv", "post_quant_conv", "patch_encoder", "patch_decoder"),
    "unet": ("conv_in", "time_embedding", "down_blocks", "mid_block", "up_blocks", "conv_norm_out", "conv_out"),
    "gaze_mlp": ("head_mlp", "gaze_mlp"),
}
NOT_IN_SHAPES = {  # keys that tensor shapes do not show
    "vae": ("norm_num_groups", "scaling_factor"),
    "unet": ("attention_head_dim", "norm_num_groups", "norm_eps"),
    "gaze_mlp": (),
}
CONFIG_ERRORS = (KeyError, TypeError, ValueError, IndexError, RuntimeError, AttributeError, ArithmeticError)
OWN_OPTION = "patch_shortcut"  # of the VAE: diffusers has none; where it is off, no config names it
MAX_DEPTH = 6  # of nested dictionaries
MAX_COPIES = 8  # of a part

OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # diffusers before 0.17
ATTENTION = re.compile(r"(.*\.attentions\.\d+)\.(query|key|value|proj_attn|to_q|to_k|to_v|to_out\.0)\.(weight|bias)")

FIRST_NAMES = (  # of the autoencoder in CompVis/stable-diffusion, ldm/modules/diffusionmodules/model.py
    (r"(encoder|decoder)\.mid\.block_1\.", r"\1.mid_block.resnets.0."),
    (r"(encoder|decoder)\.mid\.block_2\.", r"\1.mid_block.resnets.1."),
    (r"(encoder|decoder)\.mid\.attn_1\.norm\.", r"\1.mid_block.attentions.0.group_norm."),
    (r"(encoder|decoder)\.mid\.attn_1\.([qkv])\.", r"\1.mid_block.attentions.0.to_\2."),
    (r"(encoder|decoder)\.mid\.attn_1\.proj_out\.", r"\1.mid_block.attentions.0.to_out.0."),
    (r"encoder\.down\.(\d+)\.block\.(\d+)\.", r"encoder.down_blocks.\1.resnets.\2."),
    (r"encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
    (r"decoder\.up\.(\d+)\.block\.(\d+)\.", r"decoder.up_blocks.\1.resnets.\2."),
    (r"decoder\.up\.(\d+)\.upsample\.", r"decoder.up_blocks.\1.upsamplers.0."),
    (r"(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out."),
)
FIRST_MARK = "encoder.down.0.block.0.conv1.weight"


@dataclass(frozen=True)
class Contents:
    """What a file contains."""

    parts: dict[str, dict[str, Tensor]]  # by part, under diffusers' tensor names
    ema: set[str] = field(default_factory=set)  # parts taken from an averaged copy
    other_ema: set[str] = field(default_factory=set)  # parts with an averaged copy that was not taken
    ignored: list[str] = field(default_factory=list)  # names of tensors that belong to no part

    @property
    def words(self) -> str:
        return ", ".join(f"a {WORDS[part]}" for part in self.parts) or "no part of a VAE-GAZE model"

    def choices(self, part: str, how_to_average: str) -> list[str]:
        """Which of a file's alternative tensors were used; `how_to_average` names the way to its averages."""
        said = []
        if part in self.ema:
            said.append("averaged weights (EMA)")
        if part in self.other_ema:
            said.append(f"there are averaged weights (EMA), too; {how_to_average} takes those")
        if self.ignored:
            said.append(f"left out: {len(self.ignored)} other tensors, {plain(self.ignored[0])} …")
        return said


def find_parts(source: str, content, *, ema: bool = False) -> Contents:
    """The parts in `content`, which `load_tensors` read from `source`. UserError if the choice of tensors is ambiguous.

    Of a part that occurs twice, trained and averaged over training, `ema` selects the averaged one.
    """
    tensors = _flatten(source, content)
    places = {part: _places(source, part, tensors) for part in PARTS}
    contents, parts_at = Contents({}), {}
    for part, found in places.items():
        averaged = [place for place in found if "ema" in re.split(r"\W|_", place.lower())]
        trained = [place for place in found if place not in averaged]
        candidates = averaged if averaged and (ema or not trained) else trained
        if len(candidates) > 1:
            shown = ", ".join(plain(place) or "the top" for place in candidates)
            raise UserError(f"{source} holds more than one {WORDS[part]}, under {shown}; give a file with one")
        if candidates:
            contents.parts[part] = {}
            parts_at.setdefault(candidates[0], []).append(part)
            if averaged:
                (contents.ema if candidates[0] in averaged else contents.other_ema).add(part)

    # Each tensor belongs to the innermost prefix that it starts with.
    innermost_first = sorted({place for found in places.values() for place in found}, key=len, reverse=True)
    for full_name, tensor in tensors.items():
        place = next((place for place in innermost_first if full_name.startswith(place)), None)
        if place is None:
            contents.ignored.append(full_name)
        elif place in parts_at:
            name, here = full_name.removeprefix(place), parts_at[place]
            part = next((part for part in here if name.split(".")[0] in TOPS[part]), here[0])
            contents.parts[part][name] = tensor  # unknown tensors are refused later, together with missing ones
    if FIRST_MARK in contents.parts.get("vae", {}):
        contents.parts["vae"], others = _with_diffusers_names(source, contents.parts["vae"])
        contents.ignored.extend(others)
    if "vae" in contents.parts:
        contents.parts["vae"] = _with_new_attention_names(source, contents.parts["vae"])
    return contents


def _flatten(source: str, content) -> dict[str, Tensor]:
    """Every tensor, named by all its keys, joined by dots."""
    tensors: dict[str, Tensor] = {}
    seen, todo = set(), [("", content, 0)]
    while todo:
        name, value, depth = todo.pop()
        if isinstance(value, Tensor):
            if name in tensors:
                raise UserError(f"{source} holds two tensors named {plain(name)}")
            tensors[name] = value
        elif isinstance(value, Mapping) and id(value) not in seen and depth < MAX_DEPTH:
            seen.add(id(value))  # a dictionary may contain itself
            children = [(f"{name}.{key}" if name else str(key), child, depth + 1) for key, child in value.items()]
            todo += reversed(children)
    return tensors


def _places(source: str, part: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """The prefixes of a part's mark, each empty or ending in a dot."""
    mark = MARKS[part]
    found = [name.removesuffix(mark) for name in tensors if name == mark or name.endswith(f".{mark}")]
    if len(found) > MAX_COPIES:
        raise UserError(f"{source} holds {len(found)} copies of a {WORDS[part]}; give a file with one")
    return found


def _with_diffusers_names(source: str, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Renames an autoencoder's tensors from Stable Diffusion 1.x to diffusers; also returns the names not part of it.

    There the decoder's blocks are counted from the finest one, and such files often hold its training loss as well.
    """
    numbers = [int(match[1]) for name in state if (match := re.match(r"decoder\.up\.(\d{1,3})\.", name))]
    last, renamed, others = max(numbers, default=0), {}, []
    for old_name, tensor in state.items():
        if old_name.split(".")[0] not in TOPS["vae"]:
            others.append(old_name)
            continue
        name = re.sub(r"^decoder\.up\.(\d{1,3})\.", lambda match: f"decoder.up.{last - int(match[1])}.", old_name)
        for pattern, new in FIRST_NAMES:
            name = re.sub(f"^{pattern}", new, name)
        name = name.replace(".nin_shortcut.", ".conv_shortcut.")
        if name in renamed:
            raise UserError(f"{source} holds {plain(name)} twice, under its old and its new name")
        renamed[name] = tensor
    return renamed, others


def _with_new_attention_names(source: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the autoencoder's attention to diffusers' current names; 1 × 1 convolutions become linear layers."""
    renamed = {}
    for name, tensor in state.items():
        if match := ATTENTION.fullmatch(name):
            place, layer, kind = match.groups()
            name = f"{place}.{OLD_ATTENTION.get(layer, layer)}.{kind}"
            if kind == "weight" and tensor.ndim == 4 and tensor.shape[2:] == (1, 1):
                tensor = tensor[:, :, 0, 0]
        if name in renamed:
            raise UserError(f"{source} holds {plain(name)} twice, under its old and its new name")
        renamed[name] = tensor
    return renamed


def keywords_of(part: str) -> dict[str, object]:
    """The arguments of a part that vary within the family, with their defaults; not the one that diffusers lacks."""
    parameters = inspect.signature(PARTS[part]).parameters.values()
    keywords = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    return {name: default for name, default in keywords.items() if name != OWN_OPTION}


OPTIONS = {  # every key that a diffusers config may hold
    "vae": {*keywords_of("vae"), *covered_by_autoencoder(1), *WITHOUT_EFFECT},
    "unet": {*keywords_of("unet"), *covered_by_unet(1), *WITHOUT_EFFECT},
}


def config_of(source: str, part: str, state: Mapping[str, Tensor], stated: Mapping | None = None) -> dict:
    """All keyword arguments of a part: as `stated`, else inferred from tensor shapes, else the published model's.

    UserError unless the family covers them and every tensor fits.
    """
    try:
        config = {**_from_shapes(part, state), **(stated or {})}
        with torch.device("meta"):  # shapes first: a file with absurd widths must not allocate them
            module = PARTS[part](**config)
    except CONFIG_ERRORS as error:
        raise UserError(f"{source}: no {WORDS[part]} of this family: {plain(first_line(error))}") from error
    refuse_mismatch(f"{source}: {WORDS[part]}", shapes_of(module), state)
    for name, tensor in state.items():
        if not torch.stack(tensor.float().aminmax()).isfinite().all():  # of all numbers it takes long
            raise UserError(f"{source}: {WORDS[part]}: {name} holds numbers that are infinite or NaN")
    own = {OWN_OPTION: True} if config.get(OWN_OPTION) else {}
    return {key: config.get(key, default) for key, default in keywords_of(part).items()} | own


def _from_shapes(part: str, state: Mapping[str, Tensor]) -> dict[str, int | list[int]]:
    def size(name: str, dimension: int) -> int:
        if name not in state or state[name].ndim <= dimension:
            raise ValueError(f"{name} is missing or has the wrong shape")
        return state[name].shape[dimension]

    def count(name: str) -> int:
        return next(i for i in range(len(state) + 1) if name.format(i) not in state)

    if part == "gaze_mlp":
        layers = sum(re.fullmatch(r"head_mlp\.net\.\d+\.weight", name) is not None for name in state)
        return {
            "num_layers": layers,
            "num_in": size("head_mlp.net.0.weight", 1),
            "num_hidden": size("head_mlp.net.0.weight", 0),
            "num_out": size(f"head_mlp.net.{2 * layers - 2}.weight", 0),
        }
    down = "encoder.down_blocks" if part == "vae" else "down_blocks"
    blocks = count(down + ".{}.resnets.0.conv1.weight")
    config = {
        "block_out_channels": [size(f"{down}.{i}.resnets.0.conv1.weight", 0) for i in range(blocks)],
        "layers_per_block": count(down + ".0.resnets.{}.conv1.weight"),
    }
    if part == "vae":
        config |= {OWN_OPTION: True} if "patch_encoder.weight" in state else {}
        return config | {
            "in_channels": size("encoder.conv_in.weight", 1),
            "out_channels": size("decoder.conv_out.weight", 0),
            "latent_channels": size("decoder.conv_in.weight", 1),
        }
    return config | {
        "in_channels": size("conv_in.weight", 1),
        "out_channels": size("conv_out.weight", 0),
        "cross_attention_dim": size("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1),
    }
