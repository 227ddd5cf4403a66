"""The model that pre-training starts from: randomly initialised parts, and parts with published weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vaegaze.config.pretrain import ModelParams
from vaegaze.errors import UserError
from vaegaze.models import VAEGaze
from vaegaze.models.diffusers.files import Source, open_source
from vaegaze.models.diffusers.parts import CONFIG_ERRORS, PARTS, WORDS, config_of
from vaegaze.models.tensor_files import first_line, with_own_memory

FIRST_LOGVAR = -6.0  # latents begin nearly without noise: with as much as signal, the decoder learns nothing at first
RESIDUAL_ENDS = (".conv2", ".proj_out", "attentions.0.to_out.0")  # the last layers of residual branches: begin with 0
FREE = ("attn2.to_k.weight", "attn2.to_v.weight")  # as wide as the tokens: new where a UNet was made for others
WIDENED = "conv_in.weight"


@dataclass(frozen=True)
class Origin:
    """Where one group of a part's tensors comes from."""

    part: str  # as in VAEGaze
    what: str
    tensors: int
    parameters: int
    why: str


@dataclass(frozen=True)
class BaseModel:
    model: VAEGaze
    origins: tuple[Origin, ...]  # of parts with published weights, including their new tensors

    def table(self) -> str:
        """The origins, one per line."""
        rows = [(each.part, each.what, str(each.tensors), f"{each.parameters:,}", each.why) for each in self.origins]
        header = ("part", "tensors", "number", "parameters", "")
        widths = [max(len(row[i]) for row in [header, *rows]) for i in range(4)]
        lines = [
            f"  {part:{widths[0]}}  {what:{widths[1]}}  {number:>{widths[2]}}  {count:>{widths[3]}}  {why}".rstrip()
            for part, what, number, count, why in [header, *rows]
        ]
        return "\n".join(lines)


def build_base_model(params: ModelParams) -> BaseModel:
    """The initial model; seed torch first. UserError for weights that do not fit, and for a part's unknown keys."""
    config, taken, origins = _parts(params)
    model = _model(config, taken)
    _load(model, taken)
    return BaseModel(model, tuple(_with_new_ones_counted(model, origins)))


def base_config(params: ModelParams) -> dict[str, Any]:
    """The keyword arguments of the model, those of published parts included."""
    return _parts(params)[0]


def _parts(params: ModelParams) -> tuple[dict[str, Any], dict[str, Mapping[str, Tensor]], list[Origin]]:
    """The model's config, the published tensors by part, and the origin of each group of tensors."""
    own = {part: {k: v for k, v in getattr(params, part).items() if k != "checkpoint"} for part in PARTS}
    taken: dict[str, Mapping[str, Tensor]] = {}
    origins: list[Origin] = []
    vae = params.checkpoint_of("vae")
    if vae is not None:
        taken["vae"], own["vae"] = _published(vae, "vae", own["vae"])
        origins.append(_origin("vae", "taken", taken["vae"], "frozen"))
    unet, gaze_mlp = params.checkpoint_of("unet"), params.checkpoint_of("gaze_mlp")
    if unet is not None:
        source, latents = open_source(unet, ["unet"]), own["vae"].get("latent_channels", 4)
        taken["unet"], own["unet"], of_unet = _published_unet(source, own["unet"], latents)
        origins += of_unet
        own["gaze_mlp"] = {"num_out": own["unet"]["cross_attention_dim"], **own["gaze_mlp"]}
        if gaze_mlp is None:
            gaze_mlp = unet if "gaze_mlp" in source.contents.parts else None
            if gaze_mlp is None:
                origins.append(Origin("gaze_mlp", "new", 0, 0, f"{unet} holds none"))
    if gaze_mlp is not None:
        taken["gaze_mlp"], own["gaze_mlp"] = _published(gaze_mlp, "gaze_mlp", {})
        origins.append(_origin("gaze_mlp", "taken", taken["gaze_mlp"], ""))

    config = {
        **params.canvas_config,
        "residual": params.residual,
        "fill_eyes": params.fill_eyes,
        **own,
    }
    return config, taken, origins


def _model(config: dict[str, Any], taken: Mapping[str, Mapping]) -> VAEGaze:
    """The model, its new parts initialised at random; parts fully in `taken` are still on the meta device."""
    try:
        if not taken:
            model = VAEGaze(config)
        else:
            with torch.device("meta"):
                model = VAEGaze(config)
            for part, kind in PARTS.items():
                if part not in taken or _lacks_some(getattr(model, part), taken[part]):
                    setattr(model, part, kind(**config[part]))
    except CONFIG_ERRORS as error:
        raise UserError(f"model_params do not describe a model: {first_line(error)}") from error
    initialise(model)
    return model


def _lacks_some(module: nn.Module, state: Mapping[str, Tensor]) -> bool:
    return module.state_dict().keys() != state.keys()


def _load(model: VAEGaze, taken: Mapping[str, Mapping[str, Tensor]]) -> None:
    for part, state in taken.items():
        getattr(model, part).load_state_dict(with_own_memory(state), strict=False, assign=True)
    # Tensors missing here were left out for a stated reason: `_published` refuses all other gaps.


def _published(path: str, part: str, stated: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The part's tensors and all its keyword arguments. UserError unless every tensor fits."""
    source = open_source(path, [part])
    if part not in source.contents.parts:
        raise UserError(f"{source.file} holds {source.contents.words}, but no {WORDS[part]}; see model_params.{part}")
    state = source.contents.parts[part]
    return state, config_of(str(source.file), part, state, {**source.configs.get(part, {}), **stated})


def _published_unet(
    source: Source, stated: Mapping[str, Any], latent_channels: int
) -> tuple[dict[str, Tensor], dict[str, Any], list[Origin]]:
    """A published UNet, adapted to two input latents and to tokens of the stated width.

    A UNet that takes in one latent, as Stable Diffusion 1.x does, is widened: its kernels apply to the masked picture's
    latent, which comes first, and those for the reference's are 0, so that at first the reference changes nothing.
    """
    if "unet" not in source.contents.parts:
        raise UserError(f"{source.file} holds {source.contents.words}, but no UNet; see model_params.unet")
    state = dict(source.contents.parts["unet"])
    published = source.configs.get("unet", {})
    origins = []

    # conv_in
    kernel = state.get(WIDENED)
    if isinstance(kernel, Tensor) and kernel.ndim == 4 and kernel.shape[1] == latent_channels:
        state[WIDENED] = torch.cat([kernel, torch.zeros_like(kernel)], dim=1)
        published = {**published, "in_channels": 2 * latent_channels}
        why = f"{2 * latent_channels} input channels from {latent_channels}: the new ones, for the reference, are 0"
        origins.append(Origin("unet", f"{WIDENED} widened", 1, state[WIDENED].numel(), why))

    # the layers that read tokens
    tokens, width = (
        {name: each for name, each in state.items() if name.endswith(FREE)},
        stated.get("cross_attention_dim"),
    )
    published_width = next((each.shape[1] for each in tokens.values() if each.ndim == 2), None)
    dropped = {}
    if width is not None and published_width is not None and width != published_width:
        dropped = tokens
        state |= {name: each.new_zeros(len(each), width) for name, each in tokens.items()}  # for the check alone
    config = config_of(str(source.file), "unet", state, {**published, **stated})
    state = {name: each for name, each in state.items() if name not in dropped}
    if dropped:
        count = sum(len(each) * width for each in dropped.values())
        why = f"tokens of {width} numbers, the published have {published_width}"
        origins.append(Origin("unet", "attn2 to_k, to_v new", len(dropped), count, why))
    taken = {name: each for name, each in state.items() if not (origins and name == WIDENED)}
    return state, config, [_origin("unet", "taken", taken, str(source.file)), *origins]


def _origin(part: str, what: str, state: Mapping[str, Tensor], why: str) -> Origin:
    return Origin(part, what, len(state), sum(each.numel() for each in state.values()), why)


def _with_new_ones_counted(model: VAEGaze, origins: list[Origin]) -> list[Origin]:
    return [
        _origin(each.part, each.what, getattr(model, each.part).state_dict(), each.why) if not each.tensors else each
        for each in origins
    ]


@torch.no_grad()
def initialise(model: VAEGaze) -> None:
    """Initial weights that train faster than PyTorch's, which shrink activations from layer to layer."""
    for module in (model.vae, model.unet):
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
                nn.init.zeros_(layer.bias)
            if name.endswith(RESIDUAL_ENDS) and not layer.weight.is_meta:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
    latents = model.vae.post_quant_conv.in_channels
    if not model.vae.quant_conv.weight.is_meta:
        model.vae.quant_conv.weight[latents:] = 0
        model.vae.quant_conv.bias[latents:] = FIRST_LOGVAR
    if not model.gaze_mlp.gaze_mlp.net[0].weight.is_meta:
        model.gaze_mlp.initialise()
    if model.residual and not model.unet.conv_out.weight.is_meta:  # begin with the masked latents as they are
        nn.init.zeros_(model.unet.conv_out.weight)
