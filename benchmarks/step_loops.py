"""The two training loops that `step_time` compares: the project's own, and the one that every peer runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.step_meter import Meter
from vaegaze.training.references import nearest_reference, reference_rows, references_at

WARM_UP = 2  # steps
PERSON, SAMPLES = "person_001", 8


@dataclass(frozen=True)
class Setting:
    """What a measuring process is told."""

    loop: str
    folder: Path
    strategy: str
    device: str
    precision: str
    threads: int
    steps: int
    learning_rate: float = 5e-5

    @property
    def base(self) -> Path:
        return self.folder / "base.pth"

    @property
    def hdf_path(self) -> Path:
        return self.folder / "person.h5"


def measure(setting: Setting, started: float) -> dict:
    """Train; how long each step took and how much memory was needed."""
    import torch

    if setting.threads:
        torch.set_num_threads(setting.threads)
    meter = Meter(setting.steps, torch.device(setting.device), started)
    optimizer_state = (train_peer if setting.loop == "peer" else train_ours)(setting, meter)
    tensors = (tensor for state in optimizer_state.values() for tensor in state.values() if torch.is_tensor(tensor))
    return {
        "sec_per_step": meter.seconds[WARM_UP:],
        "sec_to_first_step": meter.first_sec,
        "first_loss": meter.losses[0],
        "peak_memory_mb": meter.memory_mb,
        "tflop": meter.tflop,
        "optimizer_mb": sum(tensor.nbytes for tensor in tensors) / 2**20,
        "spent": meter.spent,
    }


def train_ours(setting: Setting, meter: Meter) -> dict:
    """The project's own fine-tuning; returns the optimiser's state."""
    import torch

    from vaegaze.config.finetune import LossParams, OneshotParams
    from vaegaze.data import hdf5
    from vaegaze.models.checkpoint import load_checkpoint
    from vaegaze.models.device import find_device, to_device
    from vaegaze.training import finetune
    from vaegaze.training.losses import Loss

    device = torch.device(find_device(setting.device))  # which makes a GPU deterministic; peers' loops are not
    model = to_device(load_checkpoint(setting.base).model, device)
    samples = hdf5.read_person(setting.hdf_path, PERSON, range(SAMPLES), model.canvas).samples
    settings = OneshotParams(
        finetune_strategy=setting.strategy,
        num_steps=setting.steps + 2,
        learning_rate=setting.learning_rate,
        precision=setting.precision,
    )
    loss = Loss(LossParams(vgg_weights="random"), seed=0, device=device)
    result = finetune(
        model,
        samples,
        settings,
        loss,
        on_start=meter.on_start,
        on_step=lambda step: meter.on_step(step.total),
        scratch_dir=setting.folder,
    )
    return result.state.optimizer["state"]


def train_peer(setting: Setting, meter: Meter) -> dict:
    """The loop that peers run; returns the optimiser's state."""
    steps = peer_steps(setting)
    optimizer = next(steps)  # everything before the first step
    meter.on_start()
    for loss in islice(steps, setting.steps + 2):
        meter.on_step(loss)
    return optimizer.state


def peer_steps(setting: Setting) -> Iterator:
    """First the optimiser, then the loss of each step of the loop that peers run."""
    import diffusers
    import torch
    from torch import nn

    from vaegaze.config.finetune import LossParams, OneshotParams
    from vaegaze.data import hdf5
    from vaegaze.models import GazeMLP, to_unit_range
    from vaegaze.models.diffusers.options import covered_by_autoencoder, covered_by_unet
    from vaegaze.models.diffusers.parts import keywords_of
    from vaegaze.models.masking import fill_eyes, paint_eyes
    from vaegaze.models.vaegaze import canvas_of
    from vaegaze.training.loop import ADAM_BETAS, batch_rows
    from vaegaze.training.losses import load_vgg, masked_mean_l1
    from vaegaze.training.strategies import freeze_all_but

    class Model(nn.Module):
        def __init__(self, config: dict):
            super().__init__()
            vae, unet = ({**keywords_of(part), **config[part]} for part in ("vae", "unet"))
            vae |= covered_by_autoencoder(len(vae["block_out_channels"]))
            unet |= covered_by_unet(len(unet["block_out_channels"]))
            has_shortcut = vae.pop("patch_shortcut", False)  # which diffusers does not know
            self.vae = diffusers.AutoencoderKL(**vae)
            if has_shortcut:
                f, latents = 2 ** (len(vae["block_out_channels"]) - 1), vae["latent_channels"]
                self.vae.patch_encoder = nn.Conv2d(3, latents, f, stride=f)
                self.vae.patch_decoder = nn.ConvTranspose2d(latents, 3, f, stride=f)
            self.unet = diffusers.UNet2DConditionModel(**unet)
            self.gaze_mlp = GazeMLP(**config["gaze_mlp"])

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            mode = self.vae.encode(x).latent_dist.mode()
            return mode + self.vae.patch_encoder(x) if hasattr(self.vae, "patch_encoder") else mode

        def decode(self, z: torch.Tensor) -> torch.Tensor:
            picture = self.vae.decode(z).sample
            return picture + self.vae.patch_decoder(z) if hasattr(self.vae, "patch_decoder") else picture

    content = torch.load(setting.base, weights_only=True)
    config, device = content["model_config"], torch.device(setting.device)
    with torch.device("meta"):
        model = Model(config)
    model.load_state_dict(content["state_dict"], assign=True)
    del content
    model = model.float().to(device)
    freeze_all_but(model, setting.strategy)
    weights, params = LossParams(), OneshotParams(learning_rate=setting.learning_rate)
    vgg = load_vgg("random", seed=0).to(device)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, setting.learning_rate, ADAM_BETAS, weight_decay=params.weight_decay)
    mask = fill_eyes if config.get("fill_eyes") else paint_eyes
    canvas, scale = canvas_of(config), model.vae.config.scaling_factor
    everyone = hdf5.read_person(setting.hdf_path, PERSON, range(SAMPLES), canvas).samples
    kept = reference_rows(everyone)
    references = references_at(everyone, kept)
    yield optimizer

    step = 0
    while True:
        row = batch_rows(step, SAMPLES, 1, params.seed)[0]
        nearest = nearest_reference(references, everyone.images[row], everyone.head[row])
        rows = [row, next(other for other, each in zip(kept, references) if each is nearest)]
        samples = hdf5.read_person(setting.hdf_path, PERSON, rows, canvas).samples
        target, reference = (to_unit_range(samples.images[i : i + 1]).to(device) for i in (0, 1))
        eyes, valid = (
            torch.from_numpy(array[:1])[:, None].float().to(device) for array in (samples.eye_masks, samples.valid)
        )
        head, gaze = (torch.from_numpy(array[:1]).to(device) for array in (samples.head, samples.gaze))

        with torch.no_grad():
            masked_latents = model.encode(mask(target, eyes)) * scale
            reference_latents = model.encode(reference) * scale
        tokens = model.gaze_mlp(head, gaze)
        latents = torch.cat([masked_latents, reference_latents], dim=1)
        drawn = model.unet(latents, 0, encoder_hidden_states=tokens).sample
        if config.get("residual"):
            drawn = masked_latents + drawn
        result = model.decode(drawn / scale)
        with torch.no_grad():
            target_features = vgg.taps(target * valid)
        loss = (
            weights.l1_loss * masked_mean_l1(result, target, valid)
            + weights.mask_l1_loss * masked_mean_l1(result, target, eyes * valid)
            + weights.vgg_loss * vgg(result * valid, target_features)
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, params.max_grad_norm)
        optimizer.step()
        step += 1
        yield loss.item()
