"""Weight files as others publish them, and the config files beside them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaegaze.errors import UserError, plain
from vaegaze.models.diffusers.parts import OPTIONS, PARTS, WORDS, Contents, find_parts
from vaegaze.models.tensor_files import load_tensors

FORMAT = "vaegaze-1"  # of our own whole checkpoints
WEIGHTS = "diffusion_pytorch_model.safetensors"
WEIGHT_FILES = (  # in a folder; the first that exists counts
    WEIGHTS,
    "diffusion_pytorch_model.bin",
    "pytorch_model.bin",
    "unet.pth",  # MuseTalk 1.5
)
INDEX_SUFFIX = ".index.json"  # of the list of files that large weights were split into
CONFIG_FILES = ("config.json", "musetalk.json")
OWN_FILE = "vaegaze.json"  # beside a UNet's weights: what diffusers' configs cannot say of our model
UPSTREAMS = {"image_size": 256, "residual": False, "fill_eyes": False}  # its keys, with the values of upstream's model
# Further keys, which stand in `info` of a checkpoint: trained with some references dropped; with frames that are their
# own references; and on what.
DROPS_REFERENCE, DRAWS_FROM_ITSELF, TRAINED_ON = "drops_reference", "draws_from_itself", "trained_on"
INFO_KEYS = {DROPS_REFERENCE: False, DRAWS_FROM_ITSELF: False, TRAINED_ON: ""}  # by their types
OWN_KEYS = {**UPSTREAMS, "canvas": {}, "eye_masks": ""}  # by their types; a model has image_size or canvas
MAX_CONFIG_BYTES = 2**20
EMA_NOTES = {  # what diffusers' EMAModel leaves in the config of an averaged copy
    "decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """An opened file of weights and its configs."""

    file: Path
    contents: Contents
    configs: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by part, where a file states them
    stated_in: dict[str, str] = field(default_factory=dict)  # file names by part; under "own" for `own`
    own: dict[str, Any] = field(default_factory=dict)  # the OWN_KEYS that are stated
    info: dict[str, Any] = field(default_factory=dict)  # the INFO_KEYS that are stated
    notes: tuple[str, ...] = ()  # on unused configs


def open_source(path: str | Path, wanted: Collection[str], *, ema: bool = False) -> Source:
    """Open a file or folder of weights, with the configs of the `wanted` parts. UserError for anything else."""
    file = weights_file(Path(path))
    content = load_shards(file) if file.name.endswith(INDEX_SUFFIX) else load_tensors(file, about="weights")
    format_ = content.get("format") if isinstance(content, dict) else None
    if isinstance(format_, str) and format_.startswith("vaegaze") and format_ != FORMAT:
        raise UserError(f"{file} has format {plain(format_)!r}, not {FORMAT!r}; give a whole checkpoint or weights")
    contents = find_parts(str(file), content, ema=ema)
    if format_ != FORMAT:
        return with_configs(file, contents, wanted)
    configs = content.get("model_config")
    whole = isinstance(configs, dict) and ("image_size" in configs or "canvas" in configs)
    if not whole or not all(isinstance(configs.get(part), Mapping) for part in PARTS):
        raise UserError(f"{file}: the checkpoint's contents do not describe a VAE-GAZE model")
    own = own_keys_of(configs)
    refuse_wrong_own(file, own)
    stated_in = dict.fromkeys([*PARTS, "own"], "its own model_config")
    info = content["info"] if isinstance(content.get("info"), Mapping) else {}
    return Source(file, contents, {part: configs[part] for part in PARTS}, stated_in, own, stated_info(info))


def with_configs(file: Path, contents: Contents, wanted: Collection[str]) -> Source:
    """The configs beside the file, each matched to one of the `wanted` parts."""
    configs, stated_in, notes = {}, {}, []
    for name in CONFIG_FILES:
        if config := read_config(file.parent / name):
            config = {key: value for key, value in config.items() if key not in EMA_NOTES}
            fitting = parts_of_config(config)
            part = next((part for part in fitting if part in wanted and part not in configs), None)
            if part is not None:
                configs[part], stated_in[part] = config, name
            elif any(each in OPTIONS for each in wanted):
                class_name = config.get("_class_name")
                kind = " or ".join(WORDS[each] for each in fitting) or "no part of a VAE-GAZE model"
                taken = any(each in configs for each in fitting)
                reason = f"{CONFIG_FILES[0]} is" if taken else f"it is of {kind if class_name is None else class_name}"
                notes.append(f"{name} is not used, because {plain(str(reason))}")
    own = read_config(file.parent / OWN_FILE) if "unet" in wanted else {}
    refuse_wrong_own(file.parent / OWN_FILE, own)
    info = {key: own.pop(key) for key in INFO_KEYS if key in own}
    if own:
        stated_in["own"] = OWN_FILE
    return Source(file, contents, configs, stated_in, own, info, tuple(notes))


def stated_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """What goes along with the weights of a checkpoint's `info`."""
    return {key: info[key] for key, kind in INFO_KEYS.items() if type(info.get(key)) is type(kind)}


def refuse_wrong_own(path: Path, own: Mapping[str, Any]) -> None:
    """UserError for an unknown key or a value of the wrong type."""
    known = {**OWN_KEYS, **INFO_KEYS}
    for key, value in own.items():
        if key not in known:
            raise UserError(f"{path}: unknown key {key!r}, expected {', '.join(known)}; fix it")
        if type(value) is not type(known[key]):
            expected = {bool: "true or false", int: "a whole number", dict: "a mapping", str: "a word"}[
                type(known[key])
            ]
            raise UserError(f"{path}: {key} is {plain(repr(value))}, expected {expected}; fix it")


def upstreams_beside(own: Mapping[str, Any]) -> dict[str, Any]:
    """Upstream's values for the keys that `own` does not state; a canvas replaces image_size."""
    stated = {*own, "image_size"} if "canvas" in own else own
    return {key: value for key, value in UPSTREAMS.items() if key not in stated}


def own_keys_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our keys of a model with this config, stated or upstream's."""
    values = upstreams_beside(config) | config
    return {key: values[key] for key in OWN_KEYS if key in values}


def weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    names = [name for file in WEIGHT_FILES for name in (file, f"{file}{INDEX_SUFFIX}")]
    file = next((path / name for name in names if (path / name).is_file()), None)
    if file is None:
        raise UserError(
            f"{path} holds no {', '.join(WEIGHT_FILES[:-1])} or {WEIGHT_FILES[-1]}, nor an index of their parts; give "
            "the file itself"
        )
    return file


def load_shards(index: Path) -> dict[str, Any]:
    """The tensors of weights that were split into several files beside their index. UserError unless it fits them."""
    shard_of = read_config(index).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(name, str) for name in shard_of.values()):
        raise UserError(f"{index} maps no tensors to files (weight_map); give the folder with its intact index")
    tensors: dict[str, Any] = {}
    for name in sorted(set(shard_of.values())):
        if Path(name).name != name or "\\" in name:
            raise UserError(f"{index} names {plain(name)!r}, which is not a file beside it")
        shard = load_tensors(index.parent / name, about="weights")
        if not isinstance(shard, dict):
            raise UserError(f"{index.parent / name} holds no tensors by name")
        tensors |= {key: tensor for key, tensor in shard.items() if shard_of.get(key) == name}
    missing = sorted(shard_of.keys() - tensors.keys())
    if missing:
        raise UserError(f"{index}: {len(missing)} tensors are missing in its files, first {plain(missing[0])}")
    return tensors


def read_config(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; empty if there is no file. UserError if it is damaged."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError("it is too large")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({plain(str(error).splitlines()[0])}); fix or remove it") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no mapping of config keys; fix or remove it")
    return config


def parts_of_config(config: Mapping[str, Any]) -> list[str]:
    """The part that a config names by its class; without a class name, the part or parts that share most keys."""
    if "_class_name" in config:
        return [part for part in OPTIONS if config["_class_name"] == PARTS[part].__name__]
    shared = {part: len(config.keys() & options) for part, options in OPTIONS.items()}
    return [part for part, count in shared.items() if count and count == max(shared.values())]
