"""`vaegaze compare` as its user types it."""

from vaegaze.commands.compare import with_named_videos


def test_the_two_videos_may_stand_before_between_and_after_flags():
    named = ["--source", "a.mp4", "--result", "b.mp4"]
    assert with_named_videos(["a.mp4", "b.mp4", "--face", "2"]) == [*named, "--face", "2"]
    assert with_named_videos(["--face", "2", "a.mp4", "b.mp4"]) == ["--face", "2", *named]
    between = with_named_videos(["a.mp4", "--overwrite", "b.mp4", "--output", "n.json"])
    assert between == ["--source", "a.mp4", "--overwrite", "--result", "b.mp4", "--output", "n.json"]
    assert with_named_videos(["--source", "a.mp4", "b.mp4"]) == named
    assert with_named_videos(["--result=b.mp4", "a.mp4"]) == ["--result=b.mp4", "--source", "a.mp4"]
