"""Data sets as a source: who is trained on, what is read, and what becomes of frames that cannot be used."""

import json
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import published_layouts
import pytest
import torch

from vaegaze.config.pretrain import AugmentationParams, PretrainConfig, PretrainParams
from vaegaze.errors import UserError
from vaegaze.geometry.camera import canvas_camera
from vaegaze.pretraining.batches import STRANDS, Batches, weighted_cycle
from vaegaze.pretraining.data_sets import DataSetSource, choose_frames
from vaegaze.pretraining.phases import phases
from vaegaze.pretraining.rendered import RenderedSource
from vaegaze.pretraining.sources import held_out_elsewhere, held_out_frames, measured_on, open_sources, phase_batches
from vaegaze.pretraining.splits import read_split
from vaegaze.renderer import data_set

SIZE_PX, PERSONS, FRAMES = 32, 20, 6
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rendered_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "data.h5"
    data_set.write_hdf5(path, PERSONS, size=SIZE_PX, samples=FRAMES, split="all")
    return path


@pytest.fixture
def file(rendered_file, tmp_path):
    """A copy to damage."""
    return shutil.copy(rendered_file, tmp_path / "data.h5")


def source_of(path, persons=None, frames_per_person=4, size=SIZE_PX, **settings):
    split = read_split(path, "auto", val_share=0.1, seed=0)
    return DataSetSource(
        str(path), persons or split.train, dict(split.counts), canvas_camera(size),
        frames_per_person=frames_per_person, entropy=(0, 1), **{"buffered": 1000, **settings},
    )  # fmt: skip


def batches_of(*sources, persons=4, **settings):
    return Batches(sources, (1.0,) * len(sources), (0, 1), persons, **{"gazes": 1, "turns": 4, **settings})


def test_each_visit_is_read_once(rendered_file, monkeypatch):
    """People change at staggered times, so the first to come are not the first to leave."""
    lanes, turns = 2, 4
    source, read = source_of(rendered_file, buffered=STRANDS * lanes), []
    read_visit = DataSetSource._read
    monkeypatch.setattr(DataSetSource, "_read", lambda *given: read.append(given[1]) or read_visit(*given))
    batches, steps = batches_of(source, persons=lanes, turns=turns), range(5 * STRANDS * turns)
    for step in steps:
        batches.batch(step)
    visits = {batches.visit(step, lane)[0] for step in steps for lane in range(lanes)}
    assert len(read) == len(visits)


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 5, 24])
def test_no_more_visits_are_kept_than_are_under_way(workers, rendered_file, monkeypatch):
    """Whatever the accumulation, whose parts are steps of `Batches`; and each is read once by each worker."""
    config = PretrainConfig(
        PretrainParams(
            sources=(str(rendered_file),), frames_per_person=4, gradient_accumulation=4, pixel_batch_size=2,
            gazes_per_person=1, workers=workers,
        )
    )  # fmt: skip
    read, read_visit = [], DataSetSource._read
    monkeypatch.setattr(DataSetSource, "_read", lambda *given: read.append(given[1]) or read_visit(*given))
    sources, kept = open_sources(config.pretrain_params), 0
    for worker in {0, max(1, workers) - 1}:
        batches = phase_batches(sources, config.pretrain_params, canvas_camera(SIZE_PX), phases(config)[-1])
        (source,), steps = batches.sources, range(worker, 3 * STRANDS * batches.turns, max(1, workers))
        for step in steps:
            batches.batch(step)
            kept = max(kept, len(source._visits))
        assert len(read) == len({batches.visit(step, lane)[0] for step in steps for lane in range(2)})
        read.clear()
    assert kept == 2 * {0: 12, 1: 12, 2: 6, 3: 4, 5: 12, 24: 1}[workers]


# --- splits -----------------------------------------------------------------------------------------------------------


def test_the_files_own_split(rendered_file):
    split = read_split(rendered_file, "auto", val_share=0.5, seed=0)
    assert (len(split.train), len(split.val), len(split.test)) == (16, 2, 2) and split.source == "the file"
    assert split.val == ("person_017", "person_018") and split.counts["person_002"] == FRAMES


@pytest.mark.parametrize("kind", ["attribute", "dataset"])
def test_lists_of_ids_in_the_file(kind, file):
    with h5py.File(file, "a") as opened:
        holder = opened.attrs if kind == "attribute" else opened
        holder["train"], holder["val"] = np.array([b"person_001", b"person_002"]), np.array([b"person_003"])
    split = read_split(file, "file", val_share=0.5, seed=0)
    assert split.train == ("person_001", "person_002") and split.val == ("person_003",)
    assert len(split.unlisted) == 17 and not split.empty


def test_a_json_list(rendered_file, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["person_001", "person_002"], "val": ["person_003"]}))
    split = read_split(rendered_file, str(path), val_share=0.5, seed=0)
    assert split.train == ("person_001", "person_002") and split.val == ("person_003",) and len(split.unlisted) == 17


def test_a_json_list_from_windows(rendered_file, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["person_001"], "val": ["person_003"]}), encoding="utf-8-sig")
    assert read_split(rendered_file, str(path), val_share=0.5, seed=0).val == ("person_003",)


@pytest.mark.parametrize("other", ["./data.h5", "link.h5", "hard_link", "."])
def test_a_file_in_two_sources(other, file, tmp_path, monkeypatch):
    """What one holds out, the other would train on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.h5").symlink_to("data.h5")
    os.link("data.h5", "hard_link")
    with pytest.raises(UserError, match="the same file"):
        open_sources(PretrainParams(sources=("data.h5", other), split=("share", "file")))


@pytest.mark.parametrize("kind", ["symlink", "hard link", "group", "nested group", "images"])
def test_a_person_under_two_names_in_one_source(kind, file, tmp_path):
    """One name would be held out, the other trained on; unless the split leaves one of them out."""
    with h5py.File(file, "a") as opened:
        if kind == "nested group":
            opened["more/alias"] = opened["person_001"]
        elif kind == "images":
            for key in opened["person_001"]:
                opened[f"alias/{key}"] = opened["person_001"][key]
        elif kind == "group":
            opened["alias"] = opened["person_001"]
    source, alias = file, "more/alias" if kind == "nested group" else "alias"
    if "link" in kind:
        source = tmp_path / "folder"
        source.mkdir()
        one = source / "person_001.h5"
        with h5py.File(file) as stored:
            for number in (1, 2, 3):
                with h5py.File(source / f"person_{number:03d}.h5", "w") as other:
                    for key, dataset in stored[f"person_{number:03d}"].items():
                        other[key] = dataset[:]
        (source / "alias.h5").symlink_to(one.name) if kind == "symlink" else os.link(one, source / "alias.h5")
    with pytest.raises(UserError, match=f"(?=.*person_001)(?=.*{alias})"):
        open_sources(PretrainParams(sources=(str(source),), split=("share",)))
    listed = tmp_path / "split.json"
    listed.write_text(json.dumps({"train": ["person_001"], "val": ["person_003"]}))
    assert open_sources(PretrainParams(sources=(str(source),), split=(str(listed),)))


def test_a_copy_that_trains_on_whom_the_other_holds_out_is_said(file, tmp_path):
    """Data sets of other people that have the same ids are none."""
    copy, others, split = tmp_path / "copy.h5", tmp_path / "others.h5", tmp_path / "split.json"
    shutil.copy(file, copy)
    data_set.write_hdf5(others, PERSONS, size=SIZE_PX, samples=FRAMES, split="all", seed=5)
    split.write_text(json.dumps({"train": ["person_017", "person_020"], "val": ["person_001"]}))

    def lines(other, split):
        return held_out_elsewhere(
            open_sources(PretrainParams(sources=(str(file), str(other)), split=("file", str(split))))
        )

    assert lines(copy, "file") == lines(others, split) == []
    first, second = lines(copy, split)
    assert f"{copy} trains on 2 persons whom {file} holds out (person_017, person_020)" in first
    assert f"{file} trains on 1 persons whom {copy} holds out (person_001)" in second


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": ["person_001", "00099"], "val": ["person_003"]}, "'00099'"),
        ({"train": ["person_001"], "val": ["person_001"]}, "under train and val"),
        ({"train": ["person_001"]}, "nobody to hold out"),
        ({"training": ["person_001"]}, "not a split"),
        ({"train": [1]}, "not a split"),
        ("{", "not a split"),
    ],
)
def test_a_wrong_json_list(content, words, rendered_file, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=words):
        read_split(rendered_file, str(path), val_share=0.5, seed=0)


def test_a_share_is_drawn_by_the_seed(rendered_file):
    first, again, other = (read_split(rendered_file, "share", val_share=0.2, seed=seed) for seed in (0, 0, 1))
    assert len(first.val) == 4 and len(first.train) == 16 and set(first.val).isdisjoint(first.train)
    assert first == again and first.val != other.val


def test_a_file_without_a_split_has_none(file):
    with h5py.File(file, "a") as opened:
        for person in opened:
            del opened[person].attrs["split"]
    with pytest.raises(UserError, match="states no split"):
        read_split(file, "file", val_share=0.1, seed=0)
    assert "share of 0.1" in read_split(file, "auto", val_share=0.1, seed=0).source


@pytest.mark.parametrize("dtype", [str, np.bytes_])
@pytest.mark.parametrize(
    "kind", ["groups", "attributes", "attributes of persons in groups", "of many groups with a list beside", "files"]
)
def test_whom_a_file_marks_as_test_is_not_trained_on(kind, dtype, file, tmp_path):
    """By a group train, val or test that holds the person, by the person's own attribute, or by the file's."""
    splits = {f"person_{number:03d}": split for number, split in ((1, "train"), (2, "val"), (3, "test"), (4, "train"))}
    path, ids = tmp_path / "other.h5", dict(zip(splits, splits))
    if kind == "files":
        path = tmp_path / "folder"
        path.mkdir()
        (path / "person_003.bak").write_bytes(Path(file).read_bytes())
    if kind == "of many groups with a list beside":
        with h5py.File(path, "w") as other:
            for number in range(30):
                other[f"empty{number:02d}/_info"] = [1, 2, 3]
            other["another/_info"] = [1, 2, 3]
            other["another/group/labels"] = [1, 2, 3]
    for person, split in splits.items():
        target = path / f"{person}.h5" if kind == "files" else path
        with h5py.File(file) as stored, h5py.File(target, "a") as other:
            if kind == "files":
                for key in ("pixels", "labels"):
                    other[key] = stored[person][key][:]
                other.attrs["split"] = dtype(split)
                continue
            ids[person] = {"groups": f"{split}/{person}", "attributes": person}.get(kind, f"site/{person}")
            stored.copy(person, other, ids[person])
            other[ids[person]].attrs.update(split=dtype("demo" if kind == "groups" else split))
    for how in ("auto", "file"):
        split = read_split(path, how, val_share=0.5, seed=0)
        assert split.source == "the file" and split.train == (ids["person_001"], ids["person_004"])
        assert (split.val, split.test) == ((ids["person_002"],), (ids["person_003"],))


@pytest.mark.parametrize("kind", ["attributes", "lists"])
@pytest.mark.parametrize("name", ["val", "test"])
def test_a_file_with_nobody_to_train_on_is_not_shared_out(kind, name, file):
    with h5py.File(file, "a") as opened:
        for person in opened:
            opened[person].attrs["split"] = np.bytes_(name if kind == "attributes" else "demo")
        if kind == "lists":
            opened[name] = ["person_001"]
    with pytest.raises(UserError, match="the split from the file leaves nobody to train on"):
        read_split(file, "auto", val_share=0.5, seed=0)


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_everybody_counts_the_same(rendered_file):
    """person_001 has ten times the frames of others. Within an epoch each person gives four samples."""
    source, drawn = source_of(rendered_file), []
    batches = batches_of(source, persons=2)
    for step in range(16 * 4 * STRANDS):
        for lane in range(2):
            visit, turn = batches.visit(step, lane)
            drawn.append((visit, turn))
    epoch = [visit for visit, _ in drawn if visit < 16 * 20]
    assert len(set(epoch)) == 16 * 20
    whole = np.bincount([visit for visit in epoch if visit >= 2 * STRANDS])[2 * STRANDS :]
    assert set(whole.tolist()) == {4}, "after the staggered start each visit has its four turns"
    assert {turn for visit, turn in drawn if visit == 100} == {0, 1, 2, 3}


def test_samples_are_two_frames_of_one_person_with_their_labels(rendered_file):
    source = source_of(rendered_file, first_frames={f"person_{i:03d}": 1000 * i for i in range(1, 21)})
    with h5py.File(rendered_file) as opened:
        for visit in range(8):
            example = source.example(visit, 1, np.random.default_rng(visit), gazes=2)
            persons, rows = np.divmod(example.frames, 1000)
            assert len(set(persons)) == 1 and example.frames[2] not in example.frames[:2]
            group = opened[f"person_{persons[0]:03d}"]
            for target, gaze, head, row in zip(example.target, example.gaze, example.head, rows):
                assert np.array_equal(target, group["pixels"][row])
                assert np.allclose([*gaze, *head], group["labels"][row][:4], atol=1e-6)
            assert np.array_equal(example.reference, group["pixels"][rows[2]])
            assert example.eye_masks.any(axis=(1, 2)).all() and example.valid.all()


def test_batches_are_a_function_of_their_numbers_whoever_read_before(rendered_file):
    batches, fresh = batches_of(source_of(rendered_file)), batches_of(source_of(rendered_file, buffered=1))
    in_order = [batches.batch(step) for step in range(30)]
    for step in (29, 3, 17):
        for field in fields(in_order[step]):
            one, other = getattr(in_order[step], field.name), getattr(fresh.batch(step), field.name)
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, field.name


def test_no_two_workers_read_the_same_person_at_once(rendered_file):
    batches = batches_of(source_of(rendered_file))
    for workers in (2, 3, 4):
        visits = [
            {batches.visit(s, lane)[0] for s in range(w, 96, workers) for lane in range(4)} for w in range(workers)
        ]
        assert sum(map(len, visits)) == len(set().union(*visits))


def test_a_folder_of_one_person_files(tmp_path):
    for number in range(3):
        path = tmp_path / "xgaze" / f"subject{number:04d}.h5"
        path.parent.mkdir(exist_ok=True)
        scenes = [published_layouts.scene((0.1 * i, 0.05 * number)) for i in range(3)]
        published_layouts.write(path, "ETH-XGaze 224", scenes)
    params = PretrainParams(sources=(str(tmp_path / "xgaze"),), held_out=8)
    (source,) = open_sources(params)
    assert (len(source.split.train), len(source.split.val)) == (2, 1)
    (held_out,), skipped = held_out_frames([source], params, canvas_camera(SIZE_PX), CPU)
    assert held_out.batches[0].target.shape == (8, 3, SIZE_PX, SIZE_PX) and not skipped


def test_the_number_of_held_out_frames_is_of_those_measured(rendered_file):
    """Whole batches, alike for each source; and the file's two val persons have six frames each."""
    for names, words in (
        (("rendered",), "16 held-out frames"),
        ((str(rendered_file), "rendered"), "48 held-out frames, {} of them different,"),
    ):
        params = PretrainParams(sources=names, held_out=20 if len(names) == 1 else 63)
        held_out, _ = held_out_frames(open_sources(params), params, canvas_camera(SIZE_PX), CPU)
        pictures = {
            picture.numpy().tobytes() for each in held_out for batch in each.batches for picture in batch.target
        }
        assert measured_on(held_out) == words.format(len(pictures))


@pytest.mark.parametrize("name", ["ST-ED", "FAZE", "upstream", "GazeNeRF (GazeCapture)"])
def test_every_published_layout_is_a_source(name, tmp_path):
    """FAZE's strip covers part of the canvas: what it does not show is not valid."""
    path = tmp_path / "data.h5"
    scenes = [published_layouts.scene((0.1 * i, 0.0)) for i in range(3)]
    if name.startswith("GazeNeRF"):
        path = tmp_path / "folder" / "gaze_capture_subject00002.h5"
        path.parent.mkdir()
        published_layouts.write(path, name, scenes)
        published_layouts.write(path.with_name("gaze_capture_subject00003.h5"), name, scenes)
        path = path.parent
    else:
        for person in ("00002", "00003"):
            published_layouts.write(path, name, scenes, person_id=person)
    batch = batches_of(source_of(path)).batch(0).to(CPU)
    assert (batch.valid.mean() < 0.7) if name == "FAZE" else (batch.valid == 1).all()
    assert (batch.eye_masks <= batch.valid).all() and batch.eye_masks.sum(dim=(1, 2, 3)).min() > 5
    assert batch.gaze.abs().max() < 0.5


def test_sources_are_mixed_by_weight(rendered_file):
    cycle = weighted_cycle((1.0, 3.0))
    assert cycle.count(0) == 25 and cycle[:8].count(0) == 2
    batches = replace(
        batches_of(RenderedSource(canvas_camera(SIZE_PX), 0, 50, 8), source_of(rendered_file)), weights=(1.0, 3.0)
    )
    mixed = batches.batch(0)
    from_file = (mixed.frames >= 0).all(dim=1)
    assert from_file.tolist().count(True) == 3
    own = [batches.source_of(visit) for visit in range(300)]
    for source in (0, 1):
        assert [k for s, k in own if s == source] == list(range(75 if source == 0 else 225)), "none is left out"


def test_a_source_that_would_never_be_drawn_is_refused(rendered_file):
    def settings(*weights):
        return PretrainParams(sources=("rendered", str(rendered_file)), source_weights=weights)

    for weights, name in (((1, 250), "rendered"), ((300, 1), str(rendered_file))):
        with pytest.raises(UserError, match=f"source_weights: {name} has 0.[34].% .* give each source at least 1%"):
            open_sources(settings(*weights))
    assert len(open_sources(settings(1, 99))) == 2 and weighted_cycle((1, 99)).count(0) == 1


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("gazes", [1, 2, 4])
def test_no_target_is_its_reference(count, gazes):
    for turn in range(6):
        reference, targets = choose_frames(count, turn, gazes, np.random.default_rng(turn))
        assert len(targets) == gazes and reference not in targets and max(reference, *targets) < count


# --- what cannot be used ----------------------------------------------------------------------------------------------


def test_bad_rows_are_left_out_and_counted(file):
    with h5py.File(file, "a") as opened:
        opened["person_002/labels"][1] = np.nan
        opened["person_002/labels"][3] = 90.0  # degrees
        for person in ("person_003", "person_004"):
            opened[f"{person}/labels"][:] = np.nan
    source = source_of(file, frames_per_person=6)
    batches = batches_of(source, turns=6)
    stored = [batches.batch(step) for step in range(60)]
    skipped = [each for batch in stored for each in batch.skipped]
    assert {(each.person, each.row) for each in skipped if each.person == "person_002"} == {
        ("person_002", 1),
        ("person_002", 3),
    }
    assert {each.person for each in skipped if each.row is None} == {"person_003", "person_004"}
    assert len(skipped) == len({(each.person, each.row) for each in skipped}), "each is told once"
    assert all(torch.isfinite(batch.gaze).all() and batch.gaze.abs().max() < 1.5 for batch in stored)


@pytest.mark.parametrize("kind", ["parsing", "mask"])
def test_a_frame_with_an_empty_mask_is_skipped_and_counted(kind, file):
    """The head pose would place it. An eye that a parsing lacks, as in a blink, is no reason to skip the frame."""
    with h5py.File(file, "a") as opened:
        for person in ("person_002", "person_003"):
            group = opened[person]
            parsings = group["face_parsing"][:]
            parsings[3][np.isin(parsings[3], (2, 4))] = 0
            parsings[1] = np.where(np.isin(parsings[1], (1, 2, 3, 4)), 9, parsings[1])
            del group["face_parsing"]
            group["face_parsing" if kind == "parsing" else "mask"] = (
                parsings if kind == "parsing" else 255 * np.isin(parsings, (1, 2, 3, 4)).astype(np.uint8)
            )
    batches = batches_of(source_of(file, persons=("person_002", "person_003"), frames_per_person=6), turns=6)
    stored = [batches.batch(step) for step in range(60)]
    skipped = [(each.person, each.row, each.reason) for batch in stored for each in batch.skipped]
    assert {(person, row) for person, row, _ in skipped} == {("person_002", 1), ("person_003", 1)}
    assert len(skipped) == 2 and all(reason.endswith(", row 1: the eye mask is empty") for _, _, reason in skipped)
    shown = {row for batch in stored for row in batch.frames.flatten().tolist()}
    assert shown == {0, 2, 3, 4, 5}


def test_a_person_without_a_dataset_is_told_before(file):
    with h5py.File(file, "a") as opened:
        del opened["person_005/labels"]
    (source,) = open_sources(PretrainParams(sources=(str(file),)))
    assert source.split.empty == ("person_005",) and "person_005" not in source.split.train
    assert "1 without readable images or labels (person_005)" in source.describe()


def test_a_damaged_chunk_costs_that_frame_alone(file):
    with h5py.File(file, "r+") as opened:
        dataset = opened["person_006/pixels"]
        dataset[2] = 0  # which lzf makes smaller; noise is stored as it is
        opened.flush()
        where = dataset.id.get_chunk_info(2)
    assert where.filter_mask == 0
    with open(file, "r+b") as raw:
        raw.seek(where.byte_offset)
        raw.write(b"\xff" * where.size)  # lzf: a copy of what lies before the beginning
    source = source_of(file, persons=("person_006", "person_007"), frames_per_person=6)
    stored = [batches_of(source, turns=6).batch(step) for step in range(30)]
    skipped = {(each.person, each.row) for batch in stored for each in batch.skipped}
    assert skipped == {("person_006", 2)}


def test_a_truncated_file_is_told_at_once(file):
    size = file.stat().st_size
    with open(file, "r+b") as raw:
        raw.truncate(size // 2)
    with pytest.raises(UserError, match="damaged or cut short"):
        open_sources(PretrainParams(sources=(str(file),)))


def test_a_data_set_without_anything_usable(file):
    with h5py.File(file, "a") as opened:
        for person in opened:
            opened[f"{person}/labels"][:] = np.nan
    batches = batches_of(source_of(file))
    assert isinstance(batches[0], UserError) and "none of the 16 persons" in str(batches[0])


# --- augmentation -----------------------------------------------------------------------------------------------------

OFF = AugmentationParams(mirror=0, colour=0, jpeg=0, blur=0, scale=0, shift=0)


def pair_of(path, augmentation, visit=0, seed=5, size=SIZE_PX):
    plain, changed = source_of(path, size=size), source_of(path, size=size, augmentation=augmentation)
    return [source.example(visit, 0, np.random.default_rng(seed), gazes=2) for source in (plain, changed)]


def test_mirrored_frames_have_mirrored_labels(rendered_file):
    plain, mirrored = pair_of(rendered_file, replace(OFF, mirror=1.0))
    assert np.array_equal(mirrored.target, plain.target[:, :, ::-1])
    assert np.array_equal(mirrored.eye_masks, plain.eye_masks[:, :, ::-1])
    for name in ("gaze", "head"):
        assert np.allclose(getattr(mirrored, name), getattr(plain, name) * [1, -1])
    assert np.array_equal(mirrored.reference, plain.reference[:, ::-1]) and (mirrored.frames == -1).all()


def test_frames_move_with_their_masks(rendered_file):
    plain, moved = pair_of(rendered_file, replace(OFF, scale=0.1, shift=0.1))
    assert np.array_equal(plain.gaze, moved.gaze) and not np.array_equal(plain.target, moved.target)
    for before, after, image, image_after in zip(plain.eye_masks, moved.eye_masks, plain.target, moved.target):
        centres = [np.argwhere(mask).mean(axis=0) for mask in (before, after)]
        assert 0.05 < np.linalg.norm(centres[1] - centres[0]) < 0.2 * SIZE_PX
        scale = np.sqrt(after.sum() / before.sum())
        assert 0.85 < scale < 1.15
        # what the mask covers is the same eye: its colours
        assert np.abs(image[before].mean(axis=0) - image_after[after].mean(axis=0)).max() < 12
    assert (moved.valid.mean() < 1) and (moved.eye_masks <= moved.valid).all()


@pytest.mark.parametrize("change", [{"colour": 0.3}, {"jpeg": 1.0}, {"blur": 1.0}])
def test_colours_blur_and_jpeg_change_pixels_alone(change, rendered_file):
    plain, changed = pair_of(rendered_file, replace(OFF, **change), size=128)
    for name in ("eye_masks", "valid", "gaze", "head"):
        assert np.array_equal(getattr(plain, name), getattr(changed, name)), name
    difference = np.abs(changed.target.astype(float) - plain.target).mean()
    assert 0.001 < difference < 60
    if "blur" in change:
        assert (
            np.abs(np.diff(changed.target.astype(float), axis=1)).mean()
            < np.abs(np.diff(plain.target.astype(float), axis=1)).mean()
        )
    if "colour" in change:  # alike in target and reference: what the reference tells of the skin still holds
        shifts = [a.astype(float).mean((0, 1)) - b.astype(float).mean((0, 1)) for a, b in
                  ((changed.target[0], plain.target[0]), (changed.reference, plain.reference))]  # fmt: skip
        assert np.allclose(*shifts, atol=12)


def test_shares_of_zero_change_nothing(rendered_file):
    plain, same = pair_of(rendered_file, OFF)
    assert np.array_equal(plain.target, same.target) and np.array_equal(plain.frames, same.frames)
