"""How long a training step takes, beside the loop that every peer runs.

    python -m benchmarks.step_time --preset tiny|base --strategy selective

The peer loop is written plainly on diffusers' own classes: every step reads its sample from the file, encodes both
pictures, computes the target's VGG19 features, and works in float32. Ours is the project's own. Both get the same
weights, samples and losses; their first losses are compared before any time is believed. Each measurement is a process
of its own, which tells its peak memory, too; they alternate for several rounds, and medians count. `base` is the
full-size model with random weights, `tiny` the one that ships. The last line is one JSON object.

Needs diffusers (requirements-dev.txt).
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from vaegaze.commands.running import run_command
from vaegaze.errors import UserError
from vaegaze.training.references import nearest_reference, reference_rows, references_at
from vaegaze.training.strategies import STRATEGIES

ROUNDS, STEPS, WARM_UP = 3, 5, 2
PERSON, SAMPLES = "person_001", 8
SAME_FIRST_LOSS = 1e-3  # relative; float32 of the same numbers in another order
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
PEER_TFLOP = {"tiny": 0.07, "base": 2.4}  # of a step, about
START_UP_SEC, OVER_FLOOR = {"tiny": 5, "base": 40}, 2.0  # before the first step; a step over its convolutions' rate
CONV = (1, 256, 64, 64)  # the shape of a typical convolution at full size: 256 channels, 64 × 64
MATMUL = 2048
KINDS = {  # of PyTorch's operations, by what is in their names
    "convolutions": ("conv",),
    "products and attention": ("::mm", "::bmm", "::addmm", "attention", "softmax"),
    "normalisation": ("group_norm", "layer_norm", "FrozenGroupNorm"),
    "optimiser": ("Optimizer.step",),
    "copies": ("copy", "::cat", "::index", "::flip", "im2col", "col2im"),
}
MADE_OF_OTHERS = ("Optimizer.step", "FrozenGroupNorm")  # of operations of many kinds, which belong to these
OTHER, OUTSIDE = "element by element", "outside PyTorch's operations"
CONTENDERS = {"peer fp32": ("peer", "fp32"), "ours fp32": ("ours", "fp32"), "ours": ("ours", None)}


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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--preset", choices=("tiny", "base"), default="tiny", help="the model (default: %(default)s)")
    parser.add_argument(
        "--strategy", default="selective", choices=STRATEGIES, help="what trains (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="(default: %(default)s)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of ours")
    parser.add_argument("--checkpoint_path", default="checkpoints/pretrained_model.pth", help="of the tiny model")
    parser.add_argument("--image_size", type=int, default=256, help="of the base model, in pixels")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: as many as there are cores")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"measured in each round, after {WARM_UP} others")
    parser.add_argument("--loop", choices=("peer", "ours"), help=argparse.SUPPRESS)  # a measuring process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    return run_command(lambda: measure_alone(given) if given.loop else measure_all(given))


def measure_alone(given: argparse.Namespace) -> None:
    """One process: its device and precision were settled by the one that started it."""
    steps = WARM_UP + given.steps
    setting = Setting(given.loop, given.folder, given.strategy, given.device, given.precision, given.threads, steps)
    print(json.dumps(measure(setting, given.started)))


def measure_all(given: argparse.Namespace) -> None:
    import torch

    from vaegaze.models.device import find_device, find_precision

    device = find_device(given.device)
    precision = find_precision(given.precision, device)
    contenders = {name: own or precision for name, (_, own) in CONTENDERS.items()}
    if precision == "fp32":
        del contenders["ours"]  # the same as "ours fp32"
    print(f"This takes about {expected_minutes(given, device, contenders):.0f} minutes", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), given.preset, given.checkpoint_path, given.image_size)
        results = run_rounds(given, Path(folder), device, contenders)
    if given.threads:
        torch.set_num_threads(given.threads)
    report(results, given, device, precision)


def expected_minutes(given, device: str, contenders: dict[str, str]) -> float:
    """From the rate of a small convolution in each precision; twice as much or half is possible."""
    small = (1, 64, 32, 32)
    rate = {precision: conv_rate(device, precision, small, tries=2) for precision in set(contenders.values())}
    steps = WARM_UP + given.steps + 2
    of_one = (
        START_UP_SEC[given.preset] + steps * OVER_FLOOR * PEER_TFLOP[given.preset] / rate[precision]
        for precision in contenders.values()
    )
    return max(1.0, given.rounds * sum(of_one) / 60)


def write_inputs(folder: Path, preset: str, checkpoint_path: str, image_size: int) -> None:
    """The weights and the person that all processes read."""
    import torch

    from vaegaze.models import VAEGaze
    from vaegaze.models.checkpoint import load_checkpoint, save_checkpoint
    from vaegaze.renderer import data_set as synthetic

    if preset == "tiny":
        model = load_checkpoint(checkpoint_path).model
    else:
        torch.manual_seed(0)
        model = VAEGaze({"image_size": image_size, "vae": {}, "unet": {}, "gaze_mlp": {}})
    save_checkpoint(folder / "base.pth", model, {})
    synthetic.write_hdf5(folder / "person.h5", 1, size=model.canvas.height_px, samples=SAMPLES)


def run_rounds(given, folder: Path, device: str, contenders: dict[str, str]) -> dict[str, list[dict]]:
    """What every process reported, by contender; `contenders` are the precisions by name."""
    results = {name: [] for name in contenders}
    for number in range(given.rounds):
        for name, precision in contenders.items():
            print(f"round {number + 1} of {given.rounds}: {name}", file=sys.stderr)
            command = [sys.executable, "-m", "benchmarks.step_time", "--loop", CONTENDERS[name][0], "--folder", folder]
            command += ["--strategy", given.strategy, "--device", device, "--precision", precision]
            command += ["--threads", given.threads, "--steps", given.steps, "--started", time.time()]
            done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise UserError(f"measuring {name} failed, see above")
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    return results


# --- one process ------------------------------------------------------------------------------------------------------


class Meter:
    """Listens to a training loop: times its steps, then counts the operations of one and profiles the one after it.

    Beyond the timed steps a loop has to make two more.
    """

    def __init__(self, steps: int, device, started: float):
        self.steps, self.device, self.started = steps, device, started
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self.first_sec = self.memory_mb = self.tflop = None
        self.spent: dict[str, float] = {}
        self._before = 0.0

    def on_start(self, *_) -> None:
        self._before = time.perf_counter()

    def on_step(self, loss) -> None:
        from vaegaze.models.device import peak_memory_mb

        self.losses.append(float(loss))  # waits for the device
        now = time.perf_counter()
        done = len(self.losses)
        if done <= self.steps:
            self.seconds.append(now - self._before)
            self.first_sec = self.first_sec or time.time() - self.started
        if done == self.steps:
            self.memory_mb = peak_memory_mb(self.device)
            self._counter = flop_counter().__enter__()
        elif done == self.steps + 1:
            self._counter.__exit__(None, None, None)
            self.tflop = self._counter.get_total_flops() / 1e12
            self._profiler = profiler_for(self.device).__enter__()
        elif done == self.steps + 2:
            whole_sec = now - self._before
            self._profiler.__exit__(None, None, None)
            self.spent = seconds_by_kind(self._profiler, self.device, whole_sec)
        self._before = time.perf_counter()


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


def flop_counter():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    packed = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    return FlopCounterMode(display=False, custom_mapping={packed: flop_of_packed_convolution} if packed else {})


def flop_of_packed_convolution(x: tuple, kernel: tuple, *_, out_shape: tuple, **__) -> int:
    """Of shapes (B, C_in, H, W), (C_out, C_in, k, k) and (B, C_out, H, W); PyTorch's counter does not know it."""
    return 2 * math.prod(out_shape) * math.prod(kernel[1:])


def profiler_for(device):
    import torch
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    return torch.profiler.profile(activities=activities)


def seconds_by_kind(profiler, device, whole_sec: float) -> dict[str, float]:
    """The seconds of one step by kind of operation; on a GPU those of the kernels that an operation has started."""
    from torch.autograd import DeviceType

    spent = dict.fromkeys((*KINDS, OTHER), 0.0)
    for event in profiler.events():
        if event.device_type != DeviceType.CPU:
            continue  # a kernel, which its operation's time has in it
        name, above = event.name, event
        while above := above.cpu_parent:
            # Not where it stands elsewhere in the name: the engine adds gradients up under a node's name as well.
            name = above.name if above.name.startswith(MADE_OF_OTHERS) else name
        kinds = (kind for kind, parts in KINDS.items() if any(part in name for part in parts))
        microseconds = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        spent[next(kinds, OTHER)] += microseconds / 1e6
    return {**spent, OUTSIDE: max(0.0, whole_sec - sum(spent.values()))}


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
            self.vae = diffusers.AutoencoderKL(**vae)
            self.unet = diffusers.UNet2DConditionModel(**unet)
            self.gaze_mlp = GazeMLP(**config["gaze_mlp"])

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
            masked_latents = model.vae.encode(mask(target, eyes)).latent_dist.mode() * scale
            reference_latents = model.vae.encode(reference).latent_dist.mode() * scale
        tokens = model.gaze_mlp(head, gaze)
        latents = torch.cat([masked_latents, reference_latents], dim=1)
        drawn = model.unet(latents, 0, encoder_hidden_states=tokens).sample
        if config.get("residual"):
            drawn = masked_latents + drawn
        result = model.vae.decode(drawn / scale).sample
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


# --- the machine, and the report --------------------------------------------------------------------------------------


def rates(device: str, precisions: set[str]) -> dict[str, dict[str, float]]:
    """What the machine reaches in TFLOP/s at one large product and at one typical convolution, by precision."""
    found = {"matmul": {}, "conv": {}}
    for precision in sorted(precisions):
        found["matmul"][precision] = matmul_rate(device, precision)
        found["conv"][precision] = conv_rate(device, precision, CONV)
    return found


def matmul_rate(device: str, precision: str) -> float:
    import torch

    square = torch.randn(MATMUL, MATMUL, dtype=getattr(torch, DTYPES[precision]), device=device)
    return rate(2 * MATMUL**3, lambda: square @ square)


def conv_rate(device: str, precision: str, shape: tuple[int, int, int, int], tries: int = 7) -> float:
    """Of a 3 × 3 convolution that keeps the shape (B, C, H, W)."""
    import torch

    kind = {"dtype": getattr(torch, DTYPES[precision]), "device": device}
    pictures, kernels = torch.randn(shape, **kind), torch.randn(shape[1], shape[1], 3, 3, **kind)
    flop = 2 * 9 * shape[1] * math.prod(shape)
    return rate(flop, lambda: torch.nn.functional.conv2d(pictures, kernels, padding=1), tries)


def rate(flop: float, work: Callable, tries: int = 7) -> float:
    """TFLOP/s, by the median time of a few tries after one to warm up."""
    times = []
    for _ in range(1 + tries):
        started = time.perf_counter()
        work().flatten()[0].item()  # waits for the device
        times.append(time.perf_counter() - started)
    return flop / statistics.median(times[1:]) / 1e12


def report(results: dict[str, list[dict]], given, device: str, precision: str) -> None:
    """A table, and one line of JSON."""
    ours = "ours" if "ours" in results else "ours fp32"

    def median(name: str, key: str) -> float:
        return statistics.median(said[key] for said in results[name])

    seconds = {
        name: statistics.median([one for said in results[name] for one in said["sec_per_step"]]) for name in results
    }
    first = {name: median(name, "first_loss") for name in results}
    if abs(first["ours fp32"] / first["peer fp32"] - 1) > SAME_FIRST_LOSS:
        raise UserError(f"the loops do not compute the same: first losses {first}")
    counted = {name: median(name, "tflop") for name in results}
    if not math.isclose(counted[ours], counted["ours fp32"], rel_tol=SAME_FIRST_LOSS):
        raise UserError(f"not all operations were counted: TFLOP {counted}")
    machine = rates(device, {"fp32", precision})
    floor = counted[ours] / machine["conv"][precision]

    print(
        f"{given.preset}, {given.strategy}, {device}, ours in {precision}; {given.rounds} rounds of {given.steps} steps"
    )
    print(
        f"\n  {'':<12}{'s/step':>10}{'TFLOP':>10}{'peak MB':>10}{'1st step s':>12}{'optimiser MB':>14}{'peer / it':>11}"
    )
    for name in results:
        label = f"{name} {precision}" if name == "ours" else name
        print(
            f"  {label:<12}{seconds[name]:>10.3f}{median(name, 'tflop'):>10.3f}{median(name, 'peak_memory_mb'):>10.0f}"
            f"{median(name, 'sec_to_first_step'):>12.1f}{median(name, 'optimizer_mb'):>14.1f}"
            f"{seconds['peer fp32'] / seconds[name]:>11.2f}"
        )
    print(
        f"\n  floor {floor:.3f} s: the step's operations at the rate of one convolution; ours takes "
        f"{seconds['ours'] / floor:.2f} times that"
    )
    spent = {
        name: {
            kind: statistics.median(said["spent"][kind] for said in results[name]) for kind in (*KINDS, OTHER, OUTSIDE)
        }
        for name in results
    }
    print(f"\n  {'where a step spends its seconds':<34}" + "".join(f"{name:>12}" for name in spent))
    for kind in (*KINDS, OTHER, OUTSIDE):
        print(f"  {kind:<34}" + "".join(f"{spent[name][kind]:>12.3f}" for name in spent))
    numbers = {
        "preset": given.preset,
        "strategy": given.strategy,
        "device": device,
        "precision": precision,
        "peer_sec_per_step": seconds["peer fp32"],
        "ours_sec_per_step": seconds[ours],
        "ratio": seconds["peer fp32"] / seconds[ours],
        "ratio_same_precision": seconds["peer fp32"] / seconds["ours fp32"],
        "peer_peak_memory_mb": median("peer fp32", "peak_memory_mb"),
        "ours_peak_memory_mb": median(ours, "peak_memory_mb"),
        "peer_tflop": median("peer fp32", "tflop"),
        "ours_tflop": median(ours, "tflop"),
        "optimizer_mb": median(ours, "optimizer_mb"),
        "tflops": machine,
        "floor_sec": floor,
        "ours_over_floor": seconds[ours] / floor,
        "spent": spent,
        "sec_to_first_step": median(ours, "sec_to_first_step"),
        "peer_sec_to_first_step": median("peer fp32", "sec_to_first_step"),
    }
    print(json.dumps(numbers))


if __name__ == "__main__":
    sys.exit(main())
