"""Checkpoints, loaded strictly: whole models and adapters, our own and upstream's.

A checkpoint is one dictionary of tensors and plain Python values:

    format        "vaegaze-1"
    model_config  keyword arguments of `VAEGaze`, so the architecture is stated once
    state_dict    all weights, under diffusers' names
    info          what it was trained on, and how
    reference     None, or the person's first reference frame: image (H, W, 3) uint8, gaze and head [pitch, yaw]
    references    the person's further reference frames, if any

An adapter holds only what fine-tuning changed, and needs its base:

    format        "vaegaze-adapter-1"
    base          path, as given, and fingerprint of all weights and the config
    state_dict    the trained tensors only
    info          what fine-tuning adds to the base's info
    reference, references   as above
"""

import hashlib
import json
import logging
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vaegaze.config.tree import show
from vaegaze.errors import UserError, plain
from vaegaze.models.diffusers.files import (
    DRAWS_FROM_ITSELF,
    DROPS_REFERENCE,
    FORMAT,
    own_keys_of,
    upstreams_beside,
    with_configs,
)
from vaegaze.models.diffusers.parts import (
    CONFIG_ERRORS,
    NOT_IN_SHAPES,
    PARTS,
    WORDS,
    Contents,
    config_of,
    find_parts,
    keywords_of,
)
from vaegaze.models.tensor_files import (
    first_line,
    in_plain_order,
    is_file,
    is_folder,
    load_tensors,
    refuse_mismatch,
    save_tensors,
    shapes_of,
    state_of,
    with_own_memory,
)
from vaegaze.models.vaegaze import VAEGaze

log = logging.getLogger(__name__)

ADAPTER_FORMAT = "vaegaze-adapter-1"
MAX_REFERENCES = 8  # of a person
RESULTS = ("finetuned_model.pth", "adapter.pth")  # of a run, in its folder


@dataclass(frozen=True)
class Reference:
    """A frame of the person that pictures are drawn from."""

    image: np.ndarray  # (H, W, 3) uint8
    gaze: np.ndarray  # (2,) pitch, yaw in radians
    head: np.ndarray  # (2,) pitch, yaw in radians


@dataclass(frozen=True)
class Base:
    """The base that an adapter belongs to."""

    path: str
    fingerprint: str


@dataclass(frozen=True)
class Checkpoint:
    model: VAEGaze
    info: dict
    references: tuple[
        Reference, ...
    ]  # of the person; empty for a base, and after training on a single frame without replay
    base: Base | None = None  # only of an adapter
    adapted: frozenset[str] = frozenset()  # names of the tensors from an adapter
    notes: tuple[str, ...] = ()  # for an upstream file: inferred, assumed and omitted values
    fingerprint: str | None = None  # of all its weights, an adapter's too; known where a run starts from it

    @property
    def drops_reference(self) -> bool:
        """Whether it learnt to draw without a reference frame."""
        return bool(self.info.get(DROPS_REFERENCE))

    @property
    def draws_from_itself(self) -> bool:
        """Whether it learnt to redirect a frame with that frame as its reference."""
        return bool(self.info.get(DRAWS_FROM_ITSELF))


def save_checkpoint(
    path: str | Path, model: VAEGaze, info: dict, references: Sequence[Reference] = (), *, half: bool = False
) -> None:
    """Write model, `info` and references to `path`; `half` stores the weights as float16."""
    state = state_of(model)
    if half:
        state = {name: tensor.half() for name, tensor in state.items()}
    content = {"format": FORMAT, "model_config": model.config, "state_dict": state, "info": info}
    save_tensors(path, content | _written(references))


def save_autoencoder(path: str | Path, model: VAEGaze, info: dict) -> None:
    """Write the autoencoder alone, as float16, with the whole model's config: `vaegaze convert --vae PATH` takes it."""
    state = {name: tensor.half() for name, tensor in state_of(model).items() if name.startswith("vae.")}
    content = {"format": FORMAT, "model_config": model.config, "state_dict": state, "info": info, "reference": None}
    save_tensors(path, content)


def save_adapter(
    path: str | Path,
    model: VAEGaze,
    names: Iterable[str],
    base: Base,
    info: dict,
    references: Sequence[Reference] = (),
) -> None:
    """Write the tensors named `names` and the `base` they belong to; `info` holds what the base's info lacks."""
    parameters = dict(model.named_parameters())
    state = {name: in_plain_order(parameters[name].detach().cpu()) for name in sorted(names)}
    content = {"format": ADAPTER_FORMAT, "base": vars(base), "state_dict": state, "info": info}
    save_tensors(path, content | _written(references))


def weights_fingerprint(model: VAEGaze) -> str:
    """A checksum of all weights, as float32, and the config, however a file stores them."""
    digest = hashlib.sha256(json.dumps(_normal(model.config), sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy())
    return digest.hexdigest()


def _normal(config: dict) -> dict:
    """One spelling for all configs that build the same model: every keyword present, whole floats as floats.

    JSON turns tuples into lists.
    """
    normal = own_keys_of(config)
    for part in PARTS:
        keywords = {key: (config[part].get(key, default), type(default)) for key, default in keywords_of(part).items()}
        normal[part] = {key: float(value) if kind is float else value for key, (value, kind) in keywords.items()}
    return normal


def load_checkpoint(path: str | Path, base: str | Path | None = None) -> Checkpoint:
    """Read a checkpoint onto the CPU, weights as float32. UserError unless it is one, and complete.

    A run's folder stands for the model in it. An adapter is applied to its base, found at `base` or else where the
    adapter says. A file of upstream's loads directly if it holds all three parts.
    """
    path = file_meant(path)
    content = load_tensors(path, about="checkpoint")
    if isinstance(content, dict) and content.get("format") == ADAPTER_FORMAT:
        return _load_adapter(path, content, base)
    if base is not None:
        raise UserError(f"{path} is not an adapter, so it has no base", about="no_adapter")
    return _load_whole(path, content, "checkpoint")


def file_meant(path: str | Path) -> str | Path:
    """The checkpoint in a run's folder; any other path as it is."""
    files = (Path(path) / name for name in RESULTS) if is_folder(path) else ()
    return next((file for file in files if is_file(file)), path)


def _load_whole(path: str | Path, content, about: str) -> Checkpoint:
    format_ = content.get("format") if isinstance(content, dict) else None
    if format_ != FORMAT:
        if isinstance(format_, str) and re.fullmatch(r"vaegaze-(adapter-)?\d+", format_):
            raise UserError(
                f"{path} is of another version of this program (format {format_!r}, here {FORMAT!r}); update vaegaze"
            )
        contents = find_parts(str(path), {} if isinstance(format_, str) else content)
        if not contents.parts:
            raise UserError(f"{path} is not a VAE-GAZE checkpoint (expected format {FORMAT!r})", about=about)
        return _load_upstream(path, contents)
    try:
        model = _on_meta(content["model_config"])
        info, state = dict(content["info"]), dict(content["state_dict"])
        references = _read_references(content, model.canvas.shape)
        _refuse_wrong_indices(info)
    except CONFIG_ERRORS as error:
        raise UserError(
            f"{path}: the checkpoint's contents do not describe a VAE-GAZE model: {first_line(error)}"
        ) from error
    return Checkpoint(_with_weights(path, model, state), info, references)


def _load_upstream(path: str | Path, contents: Contents) -> Checkpoint:
    """A file with all three parts; config values that no file states and no shape shows are the published ones."""
    parts = contents.parts
    missing = [WORDS[part] for part in PARTS if part not in parts]
    if missing:
        raise UserError(
            f"{path} holds a {' and a '.join(WORDS[part] for part in parts)}, but no {' and no '.join(missing)}; put "
            "the parts together with vaegaze convert"
        )
    source = with_configs(Path(path), contents, PARTS)
    configs = {part: config_of(str(path), part, parts[part], source.configs.get(part)) for part in PARTS}
    upstreams = upstreams_beside(source.own)
    model = assemble(path, {**upstreams, **source.own, **configs}, parts)
    said = [f"{part} config from {source.stated_in[part]}" for part in source.configs]
    said += [f"{', '.join(source.own)} from {source.stated_in['own']}"] if source.own else []
    said += ["config inferred from the tensors' shapes"] if not source.configs else []
    assumed = [f"{key} {show(value)}" for key, value in upstreams.items()]
    assumed += [
        f"{part}.{key} {configs[part][key]:g}"
        for part in PARTS
        for key in NOT_IN_SHAPES[part]
        if key not in source.configs.get(part, {})
    ]
    said += [f"as published: {', '.join(assumed)}"] if assumed else []
    ema = f"vaegaze convert --vae {shlex.quote(str(path))} --unet {shlex.quote(str(path))} --ema --output PATH"
    choices = [f"{WORDS[part]}: {choice}" for part in PARTS for choice in contents.choices(part, ema)]
    return Checkpoint(
        model, source.info, (), notes=("; ".join(map(plain, said)), *source.notes, *dict.fromkeys(choices))
    )


def assemble(source: str | Path, config: dict, parts: dict[str, dict[str, torch.Tensor]]) -> VAEGaze:
    """A model from the weights of its parts; UserError unless they fit together."""
    try:
        model = _on_meta(config)
    except CONFIG_ERRORS as error:
        raise UserError(f"{source}: the parts describe no VAE-GAZE model: {first_line(error)}") from error
    return _with_weights(source, model, {f"{part}.{name}": t for part in PARTS for name, t in parts[part].items()})


def _on_meta(config: dict) -> VAEGaze:
    """Shapes without weights: a file with absurd widths must not allocate them."""
    with torch.device("meta"):
        return VAEGaze(config)


def _with_weights(source: str | Path, model: VAEGaze, state: dict[str, torch.Tensor]) -> VAEGaze:
    refuse_mismatch(source, shapes_of(model), state)
    model.load_state_dict(with_own_memory(state), strict=True, assign=True)
    log.debug("loaded %d tensors from %s", len(state), source)
    return model


def _load_adapter(path: str | Path, content: dict, base_path: str | Path | None) -> Checkpoint:
    try:
        base = Base(str(content["base"]["path"]), str(content["base"]["fingerprint"]))
        info, state = dict(content["info"]), dict(content["state_dict"])
        _refuse_wrong_indices(info)
    except CONFIG_ERRORS as error:
        raise UserError(f"{path}: the contents are no adapter: {first_line(error)}") from error
    named, beside = plain(base.path), Path(path).parent  # a relative path is stored as typed, perhaps in another folder
    places = [base_path] if base_path else [base.path, beside / base.path, beside / Path(base.path).name]
    found = [Path(file) for file in map(file_meant, places) if is_file(file)]
    if not found:
        where = f"it was trained on {named}, which is not there, nor beside the adapter"
        where = f"there is no file {base_path}" if base_path else where
        raise UserError(f"{path} is an adapter, and {where}", about="base")
    problems = []
    for place in dict.fromkeys(found):  # something else may have the name where one works
        try:
            whole = _load_base(path, place)
        except UserError as error:
            problems.append(error)
            continue
        if weights_fingerprint(whole.model) == base.fingerprint:
            break
        other = f"{path} is an adapter of another base than {place} (checksums differ); it was trained on {named}"
        problems.append(UserError(other, about="base"))
    else:
        raise problems[0]

    shapes = shapes_of(whole.model)
    refuse_mismatch(path, {name: shapes[name] for name in state if name in shapes}, state)
    try:
        references = _read_references(content, whole.model.canvas.shape)
    except CONFIG_ERRORS as error:
        raise UserError(f"{path}: the contents are no adapter: {first_line(error)}") from error
    whole.model.load_state_dict(with_own_memory(state), strict=False, assign=True)
    base = Base(str(place), base.fingerprint)
    return Checkpoint(whole.model, {**whole.info, **info}, references, base, frozenset(state), whole.notes)


def _load_base(adapter: str | Path, place: Path) -> Checkpoint:
    content = load_tensors(place, about="base")
    if isinstance(content, dict) and content.get("format") == ADAPTER_FORMAT:
        raise UserError(f"{place} is itself an adapter, not the base of {adapter}", about="base")
    return _load_whole(place, content, "base")


def _refuse_wrong_indices(info: dict) -> None:
    for name in ("trained_indices", "blend_indices"):
        if not all(type(index) is int for index in info.get(name, [])):
            raise ValueError(f"{name} are not sample numbers")


def _written(references: Sequence[Reference]) -> dict:
    def frame(reference: Reference) -> dict:
        angles = {name: [float(angle) for angle in getattr(reference, name)] for name in ("gaze", "head")}
        return {"image": torch.from_numpy(reference.image), **angles}

    first, *further = [frame(each) for each in references] or [None]
    return {"reference": first} | ({"references": further} if further else {})


def _read_references(content: dict, shape: tuple[int, int]) -> tuple[Reference, ...]:
    first, further = content["reference"], content.get("references", [])
    frames = [] if first is None else [first, *further]
    if len(frames) > MAX_REFERENCES:
        raise ValueError(f"{len(frames)} reference frames, expected at most {MAX_REFERENCES}")
    return tuple(_read_reference(frame, shape) for frame in frames)


def _read_reference(content: dict, shape: tuple[int, int]) -> Reference:
    image = content["image"].numpy()
    gaze, head = (np.array(content[key], dtype=np.float32) for key in ("gaze", "head"))
    if image.shape != (*shape, 3) or image.dtype != np.uint8 or gaze.shape != (2,) or head.shape != (2,):
        raise ValueError(f"reference frame of shape {image.shape} {image.dtype}, expected {(*shape, 3)} uint8")
    return Reference(image, gaze, head)
