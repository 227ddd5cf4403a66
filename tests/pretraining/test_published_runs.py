"""Every published layout, from the file to a checkpoint and its card."""

import hashlib
import math

import published_layouts
import pytest
from small_pretraining import run_in

from vaegaze.models.checkpoint import load_checkpoint

SCENES = [published_layouts.scene((0.1 * i, -0.05)) for i in range(3)]


def one_file(folder, name):
    for person in ("00002", "00003"):
        published_layouts.write(folder / "data.h5", name, SCENES, person_id=person)
    return folder / "data.h5", ["00002", "00003"]


def a_folder(folder, name, stems):
    (folder / "pictures").mkdir()
    for stem in stems:
        published_layouts.write(folder / "pictures" / f"{stem}.h5", name, SCENES)
    return folder / "pictures", stems


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("ST-ED", one_file),
        ("FAZE", one_file),
        ("ETH-XGaze 224", lambda *to: a_folder(*to, ["subject0000", "subject0001"])),
        ("GazeNeRF (ETH-XGaze)", lambda *to: a_folder(*to, ["xgaze_subject0000", "xgaze_subject0001"])),
    ],
)
def test_a_base_model_from_every_layout(name, files, tmp_path):
    """One person is trained on, the other is held out."""
    path, ids = files(tmp_path, name)
    run = tmp_path / "run"
    done = run_in(run, sources=[str(path)], frames_per_person=3)
    assert f"{path}: train 1 persons, 3 frames; val 1 persons, 3 frames" in done.out
    assert not (run / "skipped.json").exists()
    records = load_checkpoint(run / "model.pth").info["records"]
    assert [record["phase"] for record in records] == ["autoencoder", "UNet on latents", "UNet on pixels"]
    for record in records:
        assert math.isfinite(record["loss"]) and 3 < record["held_out_eye_psnr"] < 60
    sums = {hashlib.sha256(person.encode()).hexdigest()[:16] for person in ids}
    (row,) = [line for line in (run / "model.md").read_text().splitlines() if line.startswith(f"| {path.name} |")]
    assert {each.strip() for each in row.split("|")[-2].split(" · ")} == sums
