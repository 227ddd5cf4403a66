"""Small sound files of every kind that the commands read."""

import json
import os
import shutil
from pathlib import Path

import av
import h5py
import numpy as np
import yaml
from PIL import Image
from safetensors import safe_open

from benchmarks.tiny_model import TINY_CONFIG
from benchmarks.torture.children import run
from benchmarks.torture.commands import PERSON, PRETRAIN, estimator, frames, published, training
from vaegaze.commands import train, train_all
from vaegaze.files import remove_dead_temporaries
from vaegaze.runs import recorder


def sound_files(folder: Path) -> None:
    """Everything that the readings read, in its sound form."""
    for make in (published, frames, estimator):
        make(folder)
        shutil.rmtree(folder / "out", ignore_errors=True)
    _data_sets(folder)
    _pictures(folder, np.asarray(Image.open(folder / "frames/0.png")))
    _settings(folder)
    _runs(folder)
    (folder / "out").mkdir()


def _data_sets(folder: Path) -> None:
    with h5py.File(folder / "gaze.h5") as source:
        with h5py.File(folder / "new.h5", "w", libver="latest") as copy:
            source.copy(PERSON, copy)
        with h5py.File(folder / "texts.h5", "w") as copy:
            for name in ("a", "b", "c"):
                source.copy(PERSON, copy, name)
            copy.attrs["train"], copy["val"] = ["a", "b"], ["c"]
        group = source[PERSON]
        for name in ("a", "b"):
            (folder / "persons").mkdir(exist_ok=True)
            with h5py.File(folder / f"persons/{name}.h5", "w") as copy:
                for key in group:
                    source.copy(f"{PERSON}/{key}", copy, key)
        with h5py.File(folder / "strips.h5", "w") as copy:
            for key in group:
                copy.create_dataset(
                    f"{PERSON}/{key}", data=group[key][:], compression="gzip", shuffle=True, fletcher32=True
                )
            copy[PERSON].attrs["split"] = "train"


def _pictures(folder: Path, face: np.ndarray) -> None:
    face = face[:128, :128]
    for suffix in ("png", "jpg", "webp", "gif", "tif"):
        options = {"exif": Image.Exif()} if suffix == "jpg" else {"compression": "tiff_lzw"} if suffix == "tif" else {}
        Image.fromarray(face).save(folder / f"photo.{suffix}", **options)
    mask = np.zeros(face.shape[:2], np.uint8)
    mask[40:60, 20:50] = mask[40:60, 70:100] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    for suffix, codec in ((".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mjpeg"), (".ts", "mpeg2video")):
        with av.open(str(folder / f"talk{suffix}"), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = face.shape[1], face.shape[0]
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for number in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(face, number, axis=1), format="rgb24")))
            container.mux(stream.encode())
    (folder / "times.csv").write_text("file_or_time,pitch_deg,yaw_deg\n0,1,2\n0.08,3,4\n")


def _settings(folder: Path) -> None:
    shutil.copy("configs/finetune/finetune_gazecapture.yaml", folder / "train.yaml")
    params = {"save_dir": str(folder / "out"), "output": str(folder / "out/model.pth"), **PRETRAIN}
    params["sources"] = [str(folder / "texts.h5")]
    (folder / "pretrain.yaml").write_text(yaml.safe_dump({"pretrain_params": params, "model_params": TINY_CONFIG}))
    (folder / "split.json").write_text(json.dumps({"train": ["a", "b"], "val": ["c"]}))
    (folder / "persons.txt").write_text(f"{PERSON}\nperson_001\n")
    (folder / "sharded").mkdir()
    shutil.copytree(folder / "parts/vae", folder / "sharded", dirs_exist_ok=True)
    weights = folder / "sharded/diffusion_pytorch_model.safetensors"
    first = weights.with_name("diffusion_pytorch_model-00001-of-00001.safetensors")
    weights.rename(first)
    with safe_open(first, "pt") as file:
        names = dict.fromkeys(file.keys(), first.name)
    index = {"metadata": {"total_size": first.stat().st_size}, "weight_map": names}
    (folder / "sharded/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def _runs(folder: Path) -> None:
    """A run that was killed after two steps, an adapter, and a finished cohort."""
    flags = [*training(folder), "--person_id", PERSON]
    killed = run(lambda: _killed_at_resume_file([*flags, "--save_dir", folder / "run"]), folder)
    assert killed.code == 0 and (folder / f"run/{PERSON}/resume.pth").is_file(), killed.text
    remove_dead_temporaries(folder / f"run/{PERSON}")
    adapter = ["--save", "adapter", "--save_dir", folder / "adapted"]
    everybody = [*training(folder), "--engine", "none", "--save_dir", folder / "cohort"]
    for main, each in ((train.main, [*flags, *adapter]), (train_all.main, everybody)):
        ended = run(lambda main=main, each=each: main([str(flag) for flag in each]), folder)
        assert ended.code == 0, ended.text
    shutil.move(folder / f"adapted/{PERSON}/adapter.pth", folder / "adapter.pth")


def _killed_at_resume_file(flags: list) -> int:
    """Ends the process as soon as the run's first resume file is there."""
    save = recorder.save_resume

    def saved(*content) -> None:
        save(*content)
        os._exit(0)

    recorder.save_resume = saved
    return train.main([str(flag) for flag in flags])
