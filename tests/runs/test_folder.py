"""The folder of a run."""

from vaegaze.runs.folder import RunFolder


def test_a_plain_file_in_place_of_curves_is_cleared(tmp_path):
    folder = RunFolder(str(tmp_path), "person_001")
    folder.path.mkdir()
    (folder.path / "tensorboard").write_text("")
    folder.clear()
    assert not any(folder.path.iterdir())
