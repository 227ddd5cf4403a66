"""Whatever a user can get wrong is one clear line on stderr and exit code 2, and leaves nothing behind."""

import os
import pickle
import subprocess
import sys
import urllib.error

import h5py
import numpy as np
import pytest
import torch
from command_runs import ROOT, SAMPLES, assert_one_line, command, start_process
from PIL import Image

from vaegaze.data import hdf5
from vaegaze.models.estimator import FORMAT

PHOTO, MASK = ROOT / "docs/images/astronaut.png", ROOT / "docs/images/astronaut_mask.png"


@pytest.fixture
def refused(world, tmp_path):
    """Runs the command, which must refuse in one line with these words, having made no folder for the run."""

    def run(*flags, words, data=True):
        save_dir = tmp_path / "runs"
        own = world.flags if data else world.photo_flags
        assert_one_line(command(*own, "--save_dir", save_dir, *flags), *words)
        assert not save_dir.exists()

    return run


def test_no_estimator(refused, world, tmp_path):
    refused("--estimator", tmp_path / "none.pth", words=["there is no file", "none.pth", "--estimator"])
    refused("--estimator", world.base, words=["not a gaze estimator", "--estimator"])
    torch.save({"format": FORMAT, "state_dict": {}, "info": {}}, tmp_path / "empty.pth")
    refused("--estimator", tmp_path / "empty.pth", words=["not a gaze estimator", "--estimator"])


# --- The HDF5 file ----------------------------------------------------------------------------------------------------


def test_a_missing_file(refused, tmp_path):
    path = tmp_path / "none.h5"
    refused("--hdf_path", path, words=[str(path), "does not exist", "gazecapture_params.hdf_path", "--hdf_path"])
    refused("--hdf_path", tmp_path, words=[str(tmp_path), "is a folder without .h5 or .hdf5 files", "--hdf_path"])


@pytest.mark.parametrize("content", [b"", b"no HDF5 file", b"\x89PNG\r\n\x1a\n" + bytes(1000)])
def test_not_an_hdf5_file(content, refused, tmp_path):
    path = tmp_path / "other.h5"
    path.write_bytes(content)
    refused("--hdf_path", path, words=[str(path), "not an HDF5 file", "--hdf_path"])


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_file_cut_short(share, refused, world, tmp_path):
    path = tmp_path / "cut.h5"
    whole = world.hdf_path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused("--hdf_path", path, words=[str(path), "cut short"])


def test_a_file_that_another_program_writes_to(refused, world, tmp_path):
    path = tmp_path / "busy.h5"
    path.write_bytes(world.hdf_path.read_bytes())
    script = "import sys, h5py\nfile = h5py.File(sys.argv[1], 'r+')\nprint('open', flush=True)\nsys.stdin.read()"
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout.readline() == "open\n"
        refused("--hdf_path", path, words=[str(path), "open for writing in another program"])


def test_an_unknown_person(refused):
    refused("--person_id", "person_O02", words=["'person_O02'", f"not among the file's {len(SAMPLES)}", "'person_002'"])
    refused("--person_id", "Zoë\n漢", words=["not among the file's", "such as 'person_001'"])


def test_nobody_has_enough_samples(refused):
    refused("--num_samples", 61, words=["nobody in the file has 61", "60", "'person_001'", "fewer --num_samples"])


def change(file, what):
    """Make one of the mistakes in person_003's group."""
    group = file["person_003"]
    if what in ("no images", "no labels"):
        del group["pixels" if what == "no images" else "labels"]
        return
    labels = group["labels"][:]
    if what == "width":
        labels = labels[:, :3]
    elif what == "length":
        labels = labels[:-1]
    elif what == "no samples":
        labels, pixels = labels[:0], group["pixels"][:0]
        del group["pixels"]
        group["pixels"] = pixels
    elif what == "no extent":
        labels = h5py.Empty("f4")
    else:
        labels[:, :2] = {"NaN": np.nan, "infinity": np.inf, "degrees": 20}[what]
    del group["labels"]
    group["labels"] = labels


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no images", ["has no images", "'pixels'"]),
        ("no labels", ["has no labels", "'labels'"]),
        ("width", ["labels of the wrong width", "(6, 3)", "4 or more"]),
        ("length", ["different lengths", "(5, 8)"]),
        ("no samples", ["'pixels'", "(0, 32, 32, 3)", "expected 1 to"]),
        ("no extent", ["'labels'", "None", "expected 1 to"]),
        ("NaN", ["none of its 6 samples", "row 0", "NaN", "no angles"]),
        ("infinity", ["none of its 6 samples", "row 0", "infinity", "no angles"]),
        ("degrees", ["row 0", "degrees", "Radians"]),
    ],
)
def test_a_group_that_is_not_whole(what, words, refused, world, tmp_path):
    path = tmp_path / "changed.h5"
    path.write_bytes(world.hdf_path.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file, what)
    refused("--hdf_path", path, "--person_id", "person_003", words=[str(path), "'person_003'", *words])


def test_a_dataset_without_extent_leaves_the_other_persons_usable(world, tmp_path):
    path = tmp_path / "changed.h5"
    path.write_bytes(world.hdf_path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["person_003/pixels"]
        file["person_003/pixels"] = h5py.Empty("u1")
    assert hdf5.person_counts(path) == {"person_001": 60, "person_002": 12, "person_003": 0, "person_004": 3}


def test_a_file_of_nobody(refused, tmp_path):
    h5py.File(tmp_path / "empty.h5", "w").close()
    refused("--hdf_path", tmp_path / "empty.h5", words=["holds no samples"])


# --- The base model ---------------------------------------------------------------------------------------------------


class Code:
    """Unpickled with pickle's full powers, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_missing_checkpoint(refused, tmp_path):
    refused("--checkpoint_path", tmp_path / "none.pth", words=["no file", "none.pth", "--checkpoint_path"])


@pytest.mark.parametrize("content", [b"", b"text\n", b"PK\x03\x04" + bytes(100), "cut"])
def test_no_checkpoint(content, refused, world, tmp_path):
    path = tmp_path / "other.pth"
    path.write_bytes(world.base.read_bytes()[:-500] if content == "cut" else content)
    refused("--checkpoint_path", path, words=[str(path), "--checkpoint_path"])


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.zeros(3), {"format": "vaegaze-1"}])
def test_a_foreign_checkpoint(content, refused, tmp_path):
    torch.save(content, tmp_path / "foreign.pth")
    refused("--checkpoint_path", tmp_path / "foreign.pth", words=["foreign.pth", "VAE-GAZE"])


def test_a_checkpoint_of_another_shape(refused, world, tmp_path):
    content = torch.load(world.base, weights_only=True)
    content["state_dict"]["unet.conv_out.weight"] = torch.zeros(4, 16, 3, 3)
    content["state_dict"]["unet.extra"] = content["state_dict"].pop("unet.conv_out.bias")
    torch.save(content, tmp_path / "other.pth")
    both_sides = ["expected (4, 8, 3, 3), found (4, 16, 3, 3)", "found nothing", "expected nothing"]
    refused("--checkpoint_path", tmp_path / "other.pth", words=["3 tensors do not fit", *both_sides])


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_checkpoint_is_never_run(save, refused, world, tmp_path):
    content = torch.load(world.base, weights_only=True)
    content["info"] = Code(tmp_path / "the code ran")
    save(content, tmp_path / "evil.pth")
    refused("--checkpoint_path", tmp_path / "evil.pth", words=["evil.pth", "code", "not opened"])
    assert not (tmp_path / "the code ran").exists()
    pickle.loads(pickle.dumps(content["info"]))
    assert (tmp_path / "the code ran").exists(), "and yet the file was dangerous"


# --- Settings, device, memory, folder ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--finetune_strategy", "selectiv"], ["'selectiv'", "selective | encoder_only", "did you mean selective?"]),
        (["--num_step", 3], ["--num_step: unknown flag; did you mean --num_steps?"]),
        (["--learning-rate", 1e-3], ["--learning-rate: unknown flag; did you mean --learning_rate?"]),
        (["--learning_rate", "fast"], ["--learning_rate", "'fast'", "number > 0"]),
        (["--num_steps", 0], ["--num_steps", "whole number >= 1"]),
        (["--device", "gpu"], ["--device", "'gpu'", "auto | cpu | cuda"]),
        (["--config", "/none.yaml"], ["/none.yaml"]),
        (["--no-random_person"], ["person_id", "--person_id ID"]),
        (["extra"], ["unexpected argument 'extra'"]),
        (["--hdf_path"], ["--hdf_path", "expected one argument"]),
    ],
)
def test_settings(flags, words, refused):
    refused(*flags, words=words)


def test_several_mistakes_are_one_message(world, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("oneshot_params:\n  num_step: 5\n  batch_size: 0\n  gazecapture_params: {person_id: []}\n")
    outcome = command(*world.flags, "--config", path, "--save_dir", tmp_path / "runs")
    first, *lines = outcome.err.splitlines()
    assert outcome.code == 2 and first == "error: 3 mistakes:" and len(lines) == 3
    assert all(str(path) in line for line in lines)
    for words in ("did you mean num_steps?", "whole number >= 1", "expected text | null"):
        assert words in outcome.err


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_without_cuda(device, refused, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    refused("--device", device, words=[f"device: {device}", "0 CUDA devices", "--device cpu"])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its own memory as Linux does it")
def test_out_of_memory(world, tmp_path):
    """Of its own address space, the process may take 200 MB more than it has after its imports."""
    script = """
import resource, sys
import oneshot_training, torchmetrics.functional.image
from vaegaze.commands import train_run
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 200 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(oneshot_training.main())
"""
    flags = (*world.flags, "--save_dir", tmp_path, "--person_id", "person_004", "--num_steps", 1)
    flags = (*flags, "--batch_size", 20_000)  # whose pictures alone are larger
    process = start_process(*flags, script=script, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2 and b"Traceback" not in err, err.decode()
    last = err.decode().splitlines()[-1]
    assert last.startswith("error: out of memory; ") and "--batch_size" in last and "--num_samples" in last
    assert not (tmp_path / "person_004/finetuned_model.pth").exists()


@pytest.mark.parametrize("save_dir", ["file", "file/below", "x" * 300, "/dev/null/runs"])
def test_an_unwritable_save_dir(save_dir, world, tmp_path):
    (tmp_path / "file").write_text("in the way")
    outcome = command(*world.flags, "--save_dir", tmp_path / save_dir)
    assert_one_line(outcome, "cannot write to", str(tmp_path / save_dir), "--save_dir")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(world, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    outcome = command(*world.flags, "--save_dir", tmp_path / "locked")
    assert_one_line(outcome, "cannot write to", "Permission denied")


# --- VGG's weights ----------------------------------------------------------------------------------------------------


def test_imagenet_weights_without_a_network(refused, tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise urllib.error.URLError("Network is unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    ways_out = ["--vgg_weights PATH", "--vgg_weights random", "--vgg_loss 0"]
    refused("--vgg_loss", 0.1, words=["ImageNet weights", "Network is unreachable", *ways_out])


def test_vgg_weights_that_are_none(refused, world, tmp_path):
    refused("--vgg_loss", 0.1, "--vgg_weights", tmp_path / "none.pth", words=["none.pth", "--vgg_weights random"])
    refused("--vgg_loss", 0.1, "--vgg_weights", world.base, words=["not a VGG19 state dict", "--vgg_weights random"])


# --- A photo ----------------------------------------------------------------------------------------------------------


def draw_mask(path, boxes, size=(512, 512)):
    mask = np.zeros(size, dtype=np.uint8)
    for left, top, side in boxes:  # a negative side paints black
        mask[top : top + abs(side), left : left + abs(side)] = 255 if side > 0 else 0
    Image.fromarray(mask).save(path)


@pytest.mark.parametrize(
    ("boxes", "size", "words"),
    [
        ([], (512, 512), ["is empty", "both eyes"]),
        ([(200, 100, 40)], (512, 512), ["1 separate white area;", "exactly two"]),
        ([(100, 100, 40), (200, 100, 40), (300, 100, 40)], (512, 512), ["3 separate white areas", "exactly two"]),
        ([(100, 100, 20), (200, 100, 20)], (256, 300), ["300×256 pixels", "512×512"]),
        ([(100, 100, 60), (110, 110, -40), (125, 125, 10)], (512, 512), ["two white areas about the same centre"]),
    ],
    ids=["empty", "one blob", "three blobs", "another size", "a ring around a dot"],
)
def test_a_mask_that_does_not_fit(boxes, size, words, refused, tmp_path):
    draw_mask(tmp_path / "mask.png", boxes, size)
    flags = ("--no-use_gazecapture", "--image", PHOTO, "--mask", tmp_path / "mask.png", "--gaze", 0, 0)
    refused(*flags, data=False, words=["mask: ", "mask.png", *words])


def test_a_photo_without_what_it_needs(refused, no_opencv, tmp_path):
    photo = ("--no-use_gazecapture", "--image", PHOTO)
    refused(*photo, "--gaze", 0, 0, data=False, words=["photo_params.mask", "--mask PATH", "opencv-python"])
    refused(*photo, "--mask", MASK, data=False, words=["photo_params.gaze", "--gaze PITCH YAW"])
    refused(*photo, "--mask", MASK, "--gaze", 0, data=False, words=["--gaze", "expected 2 arguments"])
    refused(
        *photo,
        "--mask",
        tmp_path / "none.png",
        "--gaze",
        0,
        0,
        data=False,
        words=["mask: ", "none.png", "does not exist"],
    )
    refused(*photo[:2], tmp_path, "--mask", MASK, "--gaze", 0, 0, data=False, words=["image: ", "is a folder"])
    (tmp_path / "text.png").write_text("no picture")
    refused(
        *photo[:2],
        tmp_path / "text.png",
        "--mask",
        MASK,
        "--gaze",
        0,
        0,
        data=False,
        words=["image: ", "cannot be read"],
    )
    refused("--image", PHOTO, words=["--no-use_gazecapture"])
