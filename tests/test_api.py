"""The Python API: README's lines run, and importing the package stays cheap."""

import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaegaze
from vaegaze import api
from vaegaze.errors import UserError
from vaegaze.models import device
from vaegaze.models.checkpoint import Checkpoint, load_checkpoint
from vaegaze.models.cpu import drawing_forms
from vaegaze.renderer import data_set
from vaegaze.runs.person import Person

ROOT = Path(__file__).parents[1]


def readme_lines() -> str:
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]


def test_the_readme_shows_it_in_a_few_lines():
    assert 5 < len([line for line in readme_lines().splitlines() if line]) <= 15


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch, capsys):
    """On a smaller file and with fewer steps."""
    monkeypatch.chdir(tmp_path)
    data_set.write_hdf5("outputs/demo/demo.h5", 1, samples=lambda number: 16)
    script = readme_lines().replace("num_samples=30", "num_samples=8, num_eval_samples=2").replace("150", "15")
    exec(script.replace("evaluate(model, person)", "evaluate(model, person, None)"), {})
    base_psnr, tuned_psnr = map(float, capsys.readouterr().out.split())
    assert tuned_psnr > base_psnr > 20
    assert Image.open("outputs/looking_left.png").size == (512, 512)
    assert vaegaze.load_model("outputs/person_001.pth").references


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_step": 3}, "did you mean num_steps"),
        ({"num_steps": 0}, "num_steps: got 0"),
        ({"blend": "auto"}, "vaegaze train"),
    ],
)
def test_wrong_settings_are_said_in_python_terms(settings, words):
    with pytest.raises(UserError) as error:
        vaegaze.finetune(None, None, **settings)
    assert words in str(error.value) and "--" not in str(error.value)


def test_settings_without_a_flag_count(tmp_path, rendered_samples, tiny_model):
    """A large weight decay leaves other weights; and tuned twice, the frames of both times count as trained."""
    person = Person("me", rendered_samples.take([0, 1, 2]), rendered_samples.take([3]), {})
    base = Checkpoint(tiny_model, {}, ())
    settings = {"num_steps": 2, "vgg_loss": 0, "precision": "fp32", "learning_rate": 1e-2, "replay": 0}
    tuned, decayed = (vaegaze.finetune(base, person, **settings, weight_decay=decay) for decay in (0, 50))
    name = "unet.conv_out.weight"
    assert not torch.equal(tuned.model.state_dict()[name], decayed.model.state_dict()[name])
    again = vaegaze.finetune(tuned, replace(person, train=rendered_samples.take([3, 4])), **settings)
    assert again.info["trained_indices"] == [0, 1, 2, 3, 4]
    assert vaegaze.evaluate(again, person, None)["eye_psnr"] > 0


def test_bf16_where_it_is_emulated_is_warned_of(rendered_samples, tiny_model, monkeypatch):
    monkeypatch.setattr(device, "bf16_slowdown", lambda name: 89.0)
    person = Person("me", rendered_samples.take([0]), rendered_samples.take([1]), {})
    base = Checkpoint(tiny_model, {}, ())
    settings = {"num_steps": 1, "vgg_loss": 0, "replay": 0}
    with pytest.warns(UserWarning, match="emulates bf16: convolutions take 89 times as long as in fp32") as caught:
        vaegaze.finetune(base, person, **settings, precision="bf16")
    assert [each.filename for each in caught] == [__file__] and "--" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vaegaze.finetune(base, person, **settings, precision="fp32")


def test_persons_are_read_for_the_model_that_ships():
    assert vaegaze.load_model().model.canvas == api.SHIPPED_CANVAS


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_forked_process_computes():
    """As those of `multiprocessing.Pool` are on Linux; PyTorch's threads do not come along."""
    script = """
import os, signal, torch
from vaegaze import api
from vaegaze.models.cpu import drawing, own_copy
torch.set_num_threads(2)
torch.rand(2**22).sqrt_()
drawing._changing.acquire()  # by another thread, say
if os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
signal.alarm(20)  # ends it
torch.rand(2**22).sqrt_()
own_copy(torch.nn.Linear(1, 1))
os._exit(0)
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=ROOT).returncode == 0


def test_importing_the_package_imports_no_torch():
    script = "import sys, vaegaze; assert 'finetune' in dir(vaegaze); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_the_list_of_commands_is_quick():
    script = "import sys; from vaegaze.__main__ import main; main([]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "fine-tune" in done.stdout


# --- What a caller may get wrong --------------------------------------------------------------------------------------

ASTRONAUT = {"image_path": ROOT / "docs/images/astronaut.png", "mask_path": ROOT / "docs/images/astronaut_mask.png"}
SETTINGS = {"num_steps": 2, "vgg_loss": 0, "precision": "fp32", "learning_rate": 1e-2, "replay": 0}


def test_a_person_read_for_another_model(rendered_samples, tiny_model):
    elsewhere = replace(rendered_samples, canvas=api.SHIPPED_CANVAS)
    person, base = Person("me", elsewhere, elsewhere.take([]), {}), Checkpoint(tiny_model, {}, ())
    with pytest.raises(UserError, match=r"canvas=model\.model\.canvas"):
        vaegaze.finetune(base, person, **SETTINGS)
    with pytest.raises(UserError, match=r"canvas=model\.model\.canvas"):
        vaegaze.evaluate(base, person, None)


@pytest.mark.parametrize(
    ("function", "settings", "whose"),
    [
        (vaegaze.finetune, {"num_samples": 3}, "read_person"),
        (vaegaze.finetune, {"mask_path": "a.png"}, "read_person"),
        (vaegaze.finetune, {"hdf_path": "a.h5"}, "vaegaze train"),
        (vaegaze.finetune, {"eval_every": 5}, "vaegaze train"),
        (vaegaze.read_person, {"use_gazecapture": False}, "vaegaze train"),
        (vaegaze.read_person, {"image": "a.png"}, "vaegaze train"),
        (vaegaze.read_person, {"num_steps": 3}, "finetune"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(function, settings, whose):
    with pytest.raises(UserError, match=f"{next(iter(settings))}: no setting .* `{whose}`"):
        function("a", "b", **settings)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"gaze": (0, 20)}, r"gaze: got \[0, 20\]; .*20° is 0\.35$"),
        ({"gaze": (0, float("nan"))}, "gaze: got"),
        ({"gaze": (0, 0.1, 0.2)}, "gaze: got"),
        ({"gaze": 0.2}, "gaze: got"),
        ({"gaze": "camera"}, "gaze: got 'camera'"),
        ({"gaze": (0, 0), "head": (0, 20)}, "head: got"),
        ({"gaze": (0, 0), "face": 0}, "face: got 0"),
        ({"gaze": (0, 0), "strength": 100}, "strength: got 100"),
    ],
)
def test_a_look_is_held_to_the_commands_limits(asked, words, tiny_model):
    base = Checkpoint(tiny_model, {"drops_reference": True}, ())
    with pytest.raises(UserError, match=words):
        vaegaze.redirect(base, **ASTRONAUT, **asked)
    with pytest.raises(UserError, match=words):
        vaegaze.Redirector(base, **asked)


def test_angles_may_be_arrays(tiny_model):
    base = Checkpoint(tiny_model, {"drops_reference": True}, ())
    gaze, head = (0.0, 0.25), (0.125, 0.0)
    drawn = vaegaze.redirect(base, **ASTRONAUT, gaze=gaze, head=head)
    arrays = {"gaze": np.array(gaze, dtype=np.float32), "head": np.array(head)}
    assert (vaegaze.redirect(base, **ASTRONAUT, **arrays) == drawn).all()


def test_numbers_may_be_numpys(tiny_model, rendered_samples):
    person = Person("me", rendered_samples.take([0, 1, 2]), rendered_samples.take([3, 4, 5]), {})
    base, numpys = Checkpoint(tiny_model, {}, ()), {name: np.asarray(value)[()] for name, value in SETTINGS.items()}
    tuned, other = (vaegaze.finetune(base, person, **settings) for settings in (SETTINGS, numpys))
    assert all(map(torch.equal, tuned.model.state_dict().values(), other.model.state_dict().values()))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda base, person: vaegaze.redirect(base, np.zeros((9, 9, 3)), (0, 0)), "image: got ndarray"),
        (
            lambda base, person: vaegaze.redirect(base, **{**ASTRONAUT, "mask_path": np.ones(9)}, gaze=(0, 0)),
            "mask: got",
        ),
        (lambda base, person: vaegaze.redirect("base.pth", **ASTRONAUT, gaze=(0, 0)), "model: got str"),
        (lambda base, person: vaegaze.Redirector("base.pth"), "model: got str"),
        (lambda base, person: vaegaze.finetune(person, base), "model: got Person"),
        (lambda base, person: vaegaze.evaluate(base.model, person), "model: got VAEGaze"),
        (lambda base, person: vaegaze.evaluate(base, "person_001"), "person: got str"),
        (lambda base, person: vaegaze.read_person("a.h5", canvas=base.model), "canvas: got VAEGaze"),
        (lambda base, person: vaegaze.load_model(None), "path: got NoneType"),
        (lambda base, person: vaegaze.load_model(""), "path: got an empty text"),
        (lambda base, person: vaegaze.read_person(5), "hdf_path: got int"),
        (lambda base, person: vaegaze.finetune(base, person, batch_size=10**20), "batch_size: .*<= 100000"),
        (lambda base, person: vaegaze.finetune(base, person, on_step=None), "on_step: got NoneType"),
        (
            lambda base, person: vaegaze.finetune(base, person, gaze_mlp_layers=("all",)),
            "gaze_mlp_layers: needs finetune_gaze_mlp",
        ),
        (lambda base, person: vaegaze.evaluate(base, person, False), "estimator: got bool"),
        (lambda base, person: vaegaze.evaluate(base, person, base), "estimator: got Checkpoint"),
        (lambda base, person: vaegaze.save_model(base, None), "path: got NoneType"),
        (lambda base, person: vaegaze.save_model(base, ROOT / "docs"), "path: .*docs is a folder"),
        (lambda base, person: vaegaze.save_model(base, "s3://bucket/a.pth"), "is an address"),
    ],
)
def test_an_argument_of_another_kind(call, words, tiny_model, rendered_samples):
    person = Person("me", rendered_samples.take([0, 1]), rendered_samples.take([2]), {})
    with pytest.raises(UserError, match=words):
        call(Checkpoint(tiny_model, {"drops_reference": True}, ()), person)


def test_paths_may_be_path_objects(world):
    settings = {"canvas": load_checkpoint(world.base).model.canvas, "num_samples": 2, "num_eval_samples": 0}
    mask = ROOT / "docs/images/astronaut_mask.png"
    read = [vaegaze.read_person(world.hdf_path, "person_002", mask_path=each, **settings) for each in (mask, str(mask))]
    assert np.array_equal(read[0].train.eye_masks, read[1].train.eye_masks)


@pytest.fixture
def tuned(rendered_samples, tiny_model):
    """A person of six frames, three of them to train on, and a model that was."""
    person = Person("me", rendered_samples.take([0, 1, 2]), rendered_samples.take([3, 4, 5]), {})
    return person, vaegaze.finetune(Checkpoint(tiny_model, {}, ()), person, **SETTINGS)


def test_frames_that_the_model_was_trained_on_are_not_held_out(tuned, rendered_samples):
    person, model = tuned
    other_seed = replace(person, held_out=rendered_samples.take([0, 1, 4]))
    assert vaegaze.evaluate(model, other_seed, "none") == vaegaze.evaluate(
        model, replace(person, held_out=rendered_samples.take([4])), None
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_that_a_script_has_converted(dtype, tuned, tiny_model):
    model = Checkpoint(tiny_model.to(dtype), {}, ())
    photo = (ROOT / "docs/images/astronaut.png", (0, 0))
    for call in (
        lambda: vaegaze.finetune(model, tuned[0], **SETTINGS),
        lambda: vaegaze.evaluate(model, tuned[0], None),
        lambda: vaegaze.redirect(model, *photo),
        lambda: vaegaze.Redirector(model),
    ):
        with pytest.raises(UserError, match=r"its weights are (float64|bfloat16); .*\.float\(\)"):
            call()


@pytest.fixture
def double_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_new_tensors_of_a_script_may_be_double(tuned, tiny_model, double_by_default):
    person, model = tuned[0], Checkpoint(tiny_model, {}, ())
    settings = SETTINGS | {"vgg_loss": 0.1, "vgg_weights": "random"}
    numbers = vaegaze.evaluate(vaegaze.finetune(model, person, **settings), person)
    torch.set_default_dtype(torch.float32)
    usual = vaegaze.evaluate(vaegaze.finetune(model, person, **settings), person)
    measured = {key: number for key, number in usual.items() if number is not None}
    assert {key: numbers[key] for key in measured} == pytest.approx(measured, rel=1e-3, abs=1e-3)
    assert numbers.keys() == usual.keys() and "eye_l1" in measured


def weights_after(person, model, **settings) -> dict[str, torch.Tensor]:
    return vaegaze.finetune(model, person, **{**SETTINGS, **settings}).model.state_dict()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_trains_in_a_script_that_computes_without_gradients(mode, tuned, tiny_model):
    person, model = tuned[0], Checkpoint(tiny_model, {}, ())
    usual = weights_after(person, model)
    with mode():
        weights = weights_after(person, model)
    assert all(torch.equal(weights[name], usual[name]) for name in usual)


def test_it_trains_while_another_thread_draws_with_the_model(tuned, tiny_model, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    person, model = tuned[0], Checkpoint(tiny_model, {}, ())
    usual = weights_after(person, model)
    with drawing_forms(tiny_model):
        weights = weights_after(person, model)
    assert all(torch.equal(weights[name], usual[name]) for name in usual)


def test_another_person_of_the_same_id(tuned):
    person, model = tuned
    stranger = replace(person, train=person.train.mirrored(), held_out=person.held_out.mirrored())
    assert vaegaze.evaluate(model, stranger, None) == vaegaze.evaluate(model, replace(stranger, name="you"), None)
