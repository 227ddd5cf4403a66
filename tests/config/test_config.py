"""The settings: the user's YAML, flags over it, every mistake in one message, and the way back to YAML."""

import math
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest

from vaegaze.config.finetune import INSTALL_VISION, Config, ConfigError, describe, parse_command, to_yaml
from vaegaze.config.flags import FlagParser, read_command
from vaegaze.config.tree import option, resolve, settings_of
from vaegaze.errors import UserError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "configs" / "finetune").rglob("*.yaml"))
SECTION = "oneshot_params.gazecapture_params"

USERS_OWN = """\
oneshot_params:
  use_gazecapture: true
  gazecapture_params:
    hdf_path: "/path/to/GazeCapture.h5"
    person_id: null        # null for random selection
    num_samples: 30        # number of samples per person
    random_person: true    # enable random person selection
  num_steps: 500
  learning_rate: 5e-5
  batch_size: 1
  finetune_strategy: "selective"  # selective, encoder_only, cross_attention_only, minimal
  save_dir: "./outputs/gazecapture_oneshot"
  checkpoint_path: "./checkpoints/pretrained_model.pth"
loss_params:
  l1_loss: 1.0
  mask_l1_loss: 2.0
  vgg_loss: 0.1
"""


@pytest.fixture
def parse(tmp_path, monkeypatch):
    """Parse a command line, over a file `x.yaml` of this content if there is one."""
    monkeypatch.chdir(tmp_path)

    def parse(flags="", content=None):
        argv = flags.split(" ") if flags else []
        if content is not None:
            Path("x.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
            argv += ["--config", "x.yaml"]
        return parse_command(argv)

    return parse


@pytest.fixture
def problems(parse):
    """What is wrong with a command line and a file: the lines of the one error."""

    def problems(flags="", content=None):
        with pytest.raises(ConfigError) as caught:
            parse(flags, content)
        assert all("\n" not in problem for problem in caught.value.problems)
        return caught.value.problems

    return problems


def in_run(*lines):
    """A file that is right but for these lines under oneshot_params."""
    return "\n".join(["oneshot_params:", "  gazecapture_params: {hdf_path: a.h5}", *(f"  {line}" for line in lines)])


def in_gazecapture(*lines):
    lines = ["hdf_path: a.h5", *lines]
    return "\n".join(["oneshot_params:", "  gazecapture_params:", *(f"    {line}" for line in lines)])


# ---------------------------------------------------------------------------------------------------- what is right


def test_the_users_own_file(parse):
    config = parse("--use_gazecapture", USERS_OWN).config
    run, data = config.oneshot_params, config.oneshot_params.gazecapture_params
    assert run.use_gazecapture is True and data.random_person is True
    assert (data.hdf_path, data.person_id, data.num_samples) == ("/path/to/GazeCapture.h5", None, 30)
    assert run.learning_rate == 5e-5 and type(run.learning_rate) is float
    assert (run.num_steps, run.batch_size, run.finetune_strategy) == (500, 1, "selective")
    assert run.save_dir == "./outputs/gazecapture_oneshot"
    assert run.checkpoint_path == "./checkpoints/pretrained_model.pth"
    assert config.loss_params.l1_loss == 1.0 and config.loss_params.mask_l1_loss == 2.0
    assert config.loss_params.vgg_loss == 0.1 and config.loss_params.vgg_weights == "imagenet"
    assert (run.finetune_gaze_mlp, run.gaze_mlp_layers, run.seed, run.device) == (False, ("last",), 0, "auto")


def test_flags_win_over_the_file_and_the_file_over_the_defaults(parse):
    command = parse("--num_steps 3 --no-random_person --person_id 00002", in_run("num_steps: 7", "batch_size: 4"))
    run, origins = command.config.oneshot_params, command.resolved.origins
    assert (run.num_steps, run.batch_size, run.seed) == (3, 4, 0)
    assert run.gazecapture_params.person_id == "00002"
    assert origins["oneshot_params.num_steps"] == "--num_steps"
    assert origins["oneshot_params.batch_size"] == "x.yaml"
    assert origins["oneshot_params.seed"] == "default"
    assert origins[f"{SECTION}.random_person"] == "--no-random_person"


def test_without_a_file_the_defaults_hold(parse):
    config = parse("--hdf_path a.h5").config
    assert config.loss_params == Config().loss_params
    assert config.oneshot_params.num_steps == 500


@pytest.mark.parametrize(
    "content", ["", "# nothing\n", "loss_params:\n", "oneshot_params: null\n", "\ufeffloss_params:"]
)
def test_an_empty_section_means_the_defaults(parse, content):
    assert parse("--hdf_path a.h5", content).config == parse("--hdf_path a.h5").config


def test_a_person_id_wins_over_random_person(parse):
    data = parse("--random_person --person_id a --hdf_path a.h5").config.oneshot_params.gazecapture_params
    assert (data.person_id, data.random_person) == ("a", True)


@pytest.mark.parametrize("text, number", [("5e-5", 5e-5), ("'5e-5'", 5e-5), ("1", 1.0), ("1E-3", 1e-3), (".5", 0.5)])
def test_floats_are_read_however_they_are_written(parse, text, number):
    value = parse("", in_run(f"learning_rate: {text}")).config.oneshot_params.learning_rate
    assert value == number and type(value) is float


@pytest.mark.parametrize("text", ["500", "500.0", "5e2"])
def test_whole_numbers(parse, text):
    value = parse("", in_run(f"num_steps: {text}")).config.oneshot_params.num_steps
    assert value == 500 and type(value) is int


@pytest.mark.parametrize(
    "typed, angles",
    [("-0.1 -2e-1", (-0.1, -0.2)), ("-1E-1 .5", (-0.1, 0.5)), ("0 0", (0.0, 0.0)), ("-.1 -1.", (-0.1, -1.0))],
)
def test_angles_may_be_negative_and_scientific(parse, typed, angles):
    photo = parse(f"--no-use_gazecapture --image a --mask b --gaze {typed} --head {typed} --resume")
    assert photo.config.oneshot_params.photo_params.gaze == angles
    assert photo.config.oneshot_params.photo_params.head == angles
    assert photo.resume


def test_lists_devices_and_switches(parse):
    command = parse(
        "--hdf_path a.h5 --finetune_gaze_mlp --gaze_mlp_layers last all --device cuda:1 --overwrite --dry_run"
    )
    assert command.config.oneshot_params.gaze_mlp_layers == ("last", "all")
    assert command.config.oneshot_params.device == "cuda:1"
    assert (command.resume, command.overwrite, command.debug, command.dry_run) == (False, True, False, True)


def test_a_value_that_looks_like_a_negative_number_stays_as_it_is(parse):
    assert parse("--hdf_path a.h5 --person_id -5e0").config.oneshot_params.gazecapture_params.person_id == "-5e0"


def test_the_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        Config().oneshot_params.num_steps = 3


def test_shipped_files_are_right(monkeypatch):
    assert len(SHIPPED) >= 2
    monkeypatch.chdir(ROOT)
    for path in SHIPPED:
        command = parse_command(["--config", str(path)])
        assert command.config.loss_params.vgg_weights == "random", path
        assert resolve(Config, str(path)).config == command.config


def test_every_yaml_below_configs_is_read_by_a_test():
    known = {*SHIPPED, *(ROOT / "configs" / "pretrain").rglob("*.yaml")}  # see test_pretrain_command
    assert set((ROOT / "configs").rglob("*.yaml")) == known


def test_the_shipped_gazecapture_file_is_the_users_own_with_every_key(parse):
    path = ROOT / "configs" / "finetune" / "finetune_gazecapture.yaml"
    flags = ["--config", str(path), "--vgg_weights", "imagenet", "--hdf_path", "/path/to/GazeCapture.h5"]
    shipped = parse_command(flags)  # this folder's path may hold spaces
    assert shipped.config == parse("", USERS_OWN).config
    photo = "oneshot_params.photo_params."
    absent = {key for key, origin in shipped.resolved.origins.items() if origin == "default"}
    assert absent == {key for key in settings_of(Config) if key.startswith(photo)}


# ---------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    "line, message",
    [
        ("num_steps: 0", "got 0; expected whole number >= 1 and <= 1000000"),
        ("num_steps: 2.5", "got 2.5; expected whole number >= 1 and <= 1000000"),
        ("num_steps: true", "got true; expected whole number >= 1 and <= 1000000"),
        ("num_steps: many", "got 'many'; expected whole number >= 1 and <= 1000000"),
        ("num_steps: [1]", "got [1]; expected whole number >= 1 and <= 1000000"),
        ("num_steps: {a: 1}", "got {'a': 1}; expected whole number >= 1 and <= 1000000"),
        ("num_steps:", "got nothing; expected whole number >= 1 and <= 1000000"),
        ("num_steps: 010", "got 010; expected whole number >= 1 and <= 1000000"),  # 8 to YAML
        ("num_steps: 0x10", "got 0x10; expected whole number >= 1 and <= 1000000"),
        ("num_steps: 1:30", "got 1:30; expected whole number >= 1 and <= 1000000"),  # 90 to YAML
        ("num_steps: 0_5", "got 0_5; expected whole number >= 1 and <= 1000000"),  # 5 to YAML and Python
        ("learning_rate: 0_5e-1", "got '0_5e-1'; expected number > 0 and <= 1"),
        ("seed: -1", "got -1; expected whole number >= 0 and <= 4294967295"),
        ("learning_rate: 0", "got 0; expected number > 0 and <= 1"),
        ("learning_rate: 2", "got 2; expected number > 0 and <= 1"),
        ("learning_rate: .nan", "got .nan; expected number > 0 and <= 1"),
        ("learning_rate: 1e999", "got '1e999'; expected number > 0 and <= 1"),
        ("learning_rate: yes", "got yes; expected number > 0 and <= 1"),
        ("weight_decay: .inf", "got .inf; expected number >= 0"),
        ("max_grad_norm: 0", "got 0; expected number > 0"),
        ("finetune_gaze_mlp: 'true'", "got 'true'; expected true | false"),
        ("finetune_gaze_mlp: 1", "got 1; expected true | false"),
        ("gaze_mlp_layers: last", "got 'last'; expected list of last | all"),
        ("gaze_mlp_layers: []", "got []; expected list of last | all"),
        ("gaze_mlp_layers: [lst]", "got ['lst']; expected list of last | all; did you mean last?"),
        ("save_dir:", "got nothing; expected text"),
        ("save_dir: [a]", "got ['a']; expected text"),
        ("save_dir: ''", "got ''; expected text"),
        ("device: gpu", "got 'gpu'; expected auto | cpu | cuda | cuda:N"),
        ("precision: fp16", "got 'fp16'; expected auto | fp32 | bf16; did you mean bf16?"),
        ("checkpoint_every: -1", "got -1; expected whole number >= 0"),
        (
            "finetune_strategy: selectiv",
            "got 'selectiv'; expected selective | encoder_only | cross_attention_only | minimal | full; "
            "did you mean selective?",
        ),
    ],
)
def test_an_illegal_value(problems, line, message):
    key = line.partition(":")[0]
    assert problems("", in_run(line)) == [f"x.yaml, line 3: oneshot_params.{key}: {message}"]


@pytest.mark.parametrize(
    "text",
    ["03523", "00002", "010", "no", "on", "1_0", "1.50", "2024-01-31", "0x1F", "1:30", "009", "person_001", "5e-5",
     "'03523'", "'null'", '"~"', "0000-13-99"],
)  # fmt: skip
def test_a_person_id_is_text_with_and_without_quotes(parse, text):
    data = parse("", in_gazecapture(f"person_id: {text}")).config.oneshot_params.gazecapture_params
    assert data.person_id == text.strip("'\"")


@pytest.mark.parametrize("text", ["null", "~", "Null", ""])
def test_no_person_id(parse, text):
    assert parse("", in_gazecapture(f"person_id: {text}")).config.oneshot_params.gazecapture_params.person_id is None


@pytest.mark.parametrize(
    "text, value",
    [("true", True), ("Yes", True), ("on", True), ("false", False), ("no", False), ("OFF", False)],
)
def test_booleans_as_yaml_has_them(parse, text, value):
    assert parse("", in_run(f"mirror: {text}")).config.oneshot_params.mirror is value


def test_words_of_a_list_are_text_too(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("names: [00002, no, 1.50, 'x y', a]")
    assert resolve(Pretraining, str(path)).config.names == ("00002", "no", "1.50", "x y", "a")
    path.write_text("names: [a, null]")
    with pytest.raises(ConfigError, match=r"names: got \['a', null\]; expected list of text \| null"):
        resolve(Pretraining, str(path))


@pytest.mark.parametrize(
    "line, message",
    [
        ("num_step: 3", "unknown key; did you mean num_steps?"),
        ("num_samples: 3", f"unknown key; it belongs under {SECTION}"),
        ("hdf_pth: a", f"unknown key; did you mean hdf_path, under {SECTION}?"),
        ("l1_loss: 1", "unknown key; it belongs under loss_params"),
        ("los_params: 1", "unknown key; did you mean loss_params, at the top level?"),
        ("qqq: 1", "unknown key"),
        ("a.b: 1", "unknown key"),
    ],
)
def test_an_unknown_key(problems, line, message):
    (problem,) = problems("", in_run(line))
    place = f"x.yaml, line 3: oneshot_params.{line.rpartition(':')[0]}: "
    assert problem.startswith(f"{place}{message}; known here: use_gazecapture, gazecapture_params, ")
    assert problem.endswith("checkpoint_every")


def test_a_dotted_key_is_no_short_cut(problems):
    assert "unknown key" in problems("--hdf_path a", "oneshot_params.num_steps: 3")[0]


def test_a_key_given_twice(problems):
    expected = "x.yaml, line 5: oneshot_params.seed: given twice, first on line 3; keep one"
    assert problems("", in_run("seed: 1", "num_steps: 2", "seed: 1")) == [expected]
    expected = "x.yaml, line 4: oneshot_params: given twice, first on line 1; keep one"
    assert problems("", in_run("seed: 1") + "\noneshot_params:\n  seed: 2\n") == [expected]


def test_keys_are_text(problems):
    (problem,) = problems("", in_run("1: 3"))
    assert problem.startswith("x.yaml, line 3: oneshot_params.1: unknown key")
    (problem,) = problems("", in_run("[a]: 3"))
    assert problem == "x.yaml, line 3: got a list or mapping as a key in oneshot_params; expected text"


def test_a_section_that_is_none(problems):
    (problem,) = problems("--hdf_path a", "loss_params: 3")
    expected = "got 3; expected a section with keys out of l1_loss, mask_l1_loss, vgg_loss, vgg_weights"
    assert problem == f"x.yaml, line 1: loss_params: {expected}"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"- 1\n", ", line 1: got [1]; expected a section with keys out of oneshot_params, loss_params"),
        (b"a: 1\nb: c: d\n", ", line 2: not valid YAML: mapping values are not allowed here"),
        (b"a: 1\n\tb: 2\n", ", line 2: not valid YAML: found character '\\t' that cannot start any token"),
        (b'a: "C:\\data"\n', ", line 1: not valid YAML: found unknown escape character 'd'; in double quotes"),
        (b"a: 1\n---\nb: 2\n", ", line 2: not valid YAML: but found another document"),
        (b"a: 1\nb: \x07\n", ", line 2: not valid YAML: character #x0007 is not allowed"),
        (b"a: 1\nb: \xff\n", ", line 2: not UTF-8 text; save the file as UTF-8"),
        (
            b"a: &x [1]\nb: [*x, *x]\n",
            ", line 1: not valid YAML: anchors (&), aliases (*) and tags (!) are not read here",
        ),
        (b"a: !!python/name:os.system\n", ", line 1: not valid YAML: anchors (&), aliases (*) and tags (!)"),
        (b"a: " + b"[" * 5000, ", line 1: not valid YAML: more than 20 levels deep"),
        (b"#" * 100_001, ": larger than 100,000 bytes"),
    ],
)
def test_a_file_that_is_no_settings_file(problems, content, message):
    (problem,) = problems("", content)
    assert problem.startswith(f"x.yaml{message}")


@pytest.mark.parametrize("path, message", [("no.yaml", "no such file"), (".", "cannot be read: Is a directory")])
def test_a_file_that_cannot_be_read(problems, path, message):
    (problem,) = problems(f"--config {path}")
    assert problem.startswith(f"{path}: {message}")


def test_odd_characters_do_not_break_the_line(problems):
    (problem,) = problems("", in_run('"a\\n\\e[1m": 1'))
    assert problem.startswith("x.yaml, line 3: oneshot_params.a\\n\\x1b[1m: unknown key")


@pytest.mark.parametrize("word", ["=", "<<", "1" * 5000, "99:99", "2024-99-99"])
def test_odd_words_are_refused_plainly(problems, word):
    (problem,) = problems("", in_run(f"num_steps: {word}"))
    assert "expected whole number >= 1" in problem and len(problem) < 200


# ---------------------------------------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    "flags, messages",
    [
        ("", [f"command line: {SECTION}.hdf_path: needed; give --hdf_path PATH, or set it in the --config file"]),
        (
            "--hdf_path a --no-random_person",
            [
                f"command line: {SECTION}.person_id: "
                "needed with random_person: false; give --person_id ID, or --random_person"
            ],
        ),
        (
            "--no-use_gazecapture",
            [
                f"command line: oneshot_params.photo_params.{name}: "
                f"needed without use_gazecapture; set it, or give --{name} {words}"
                for name, words in (
                    ("image", "PATH"),
                    ("mask", f"PATH; or {INSTALL_VISION}, to find the eyes automatically"),
                    ("gaze", "PITCH YAW"),
                )
            ],
        ),
        (
            "--hdf_path a --image b",
            ["--image (oneshot_params.photo_params.image): applies only to a photo; add --no-use_gazecapture"],
        ),
        (
            "--no-use_gazecapture --image a --mask b --gaze 0 0 --person_id c",
            [
                f"--person_id ({SECTION}.person_id): applies only to a data set; leave it out for a photo, or add "
                "--use_gazecapture"
            ],
        ),
        (
            "--hdf_path a --gaze_mlp_layers all",
            ["--gaze_mlp_layers (oneshot_params.gaze_mlp_layers): needs --finetune_gaze_mlp"],
        ),
        (
            "--hdf_path a --l1_loss 0 --mask_l1_loss 0 --vgg_loss 0",
            [
                "--l1_loss (loss_params.l1_loss): is 0, and so are the other two weights; "
                "set one of loss_params.l1_loss, loss_params.mask_l1_loss, loss_params.vgg_loss above 0"
            ],
        ),
        (
            "--no-use_gazecapture --image a --mask b --gaze 0 0 --face 2",
            ["--face (oneshot_params.photo_params.face): cannot be combined with a mask, which already marks the eyes"],
        ),
        (
            "--no-use_gazecapture --image a --mask b --gaze 10 0",
            [
                "--gaze (oneshot_params.photo_params.gaze): got ['10', '0']; "
                "expected list of 2, each a number >= -1.5708 and <= 1.5708 rad | null; "
                "looks like degrees: 10° is 0.17, or use --gaze_deg"
            ],
        ),
    ],
)
def test_settings_that_do_not_fit_together(problems, no_opencv, flags, messages):
    assert problems(flags) == messages


def test_a_photo_needs_no_mask_where_its_eyes_can_be_found(parse):
    pytest.importorskip("cv2")
    assert parse("--no-use_gazecapture --image a --gaze 0 0").config.oneshot_params.photo_params.mask is None


def test_photo_settings_in_the_file_may_wait(parse):
    content = in_run("photo_params: {image: a.png}")
    assert parse("", content).config.oneshot_params.photo_params.image == "a.png"


def test_a_wrong_value_is_not_also_called_missing(problems):
    assert len(problems("", "oneshot_params: {gazecapture_params: {hdf_path: ''}}")) == 1


def test_a_flag_does_not_hide_what_is_wrong_in_the_file(problems):
    assert len(problems("--num_steps 3", in_run("num_steps: 0"))) == 1


# -------------------------------------------------------------------------------------------------------- the flags


def test_all_mistakes_in_one_message(problems, parse):
    content = in_run("num_step: 3", "seed: x", "seed: 1") + "\nloss_params: {vgg_loss: -1}"
    flags = "--num_samples 0 --batch_sise 3 --random_person"
    found = problems(flags, content)
    expected = ["--batch_sise", "given twice", "unknown key", "got 'x'", "got -1", "--num_samples"]
    assert len(found) == len(expected)
    assert all(words in problem for words, problem in zip(expected, found))
    with pytest.raises(UserError) as caught:
        parse(flags, content)
    assert str(caught.value).splitlines() == ["6 mistakes:", *(f"  {problem}" for problem in found)]


def test_a_single_mistake_is_a_single_line(problems, parse):
    with pytest.raises(UserError, match=re.escape(problems("--num_steps 0 --hdf_path a")[0])) as caught:
        parse("--num_steps 0 --hdf_path a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--num_samplse 3", "--num_samplse: unknown flag; did you mean --num_samples?"),
        ("--num-samples=3", "--num-samples: unknown flag; did you mean --num_samples?"),
        ("--num 3", "--num: unknown flag"),
        ("--qqq", "--qqq: unknown flag; see --help"),
        ("--use_gazecapture true", "unexpected argument 'true'; see --help"),
        ("-5", "-5: unknown flag; see --help"),
    ],
)
def test_an_unknown_flag(problems, flags, message):
    (problem,) = problems(f"--hdf_path a {flags}")
    assert problem.startswith(message)


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--num_steps", "--num_steps: expected one argument"),
        ("--gaze -1", "--gaze: expected 2 arguments"),
        ("--use_gazecapture=true", "--use_gazecapture/--no-use_gazecapture: ignored explicit argument 'true'"),
    ],
)
def test_a_flag_without_its_value(parse, flags, message):
    with pytest.raises(UserError) as caught:
        parse(flags)
    assert str(caught.value) == message


def test_every_flag_is_there(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_command(["--help"])
    assert caught.value.code == 0
    flags = """--config --use_gazecapture --no-use_gazecapture --hdf_path --person_id --num_samples --random_person
        --no-random_person --num_eval_samples --num_steps --learning_rate --batch_size --finetune_strategy
        --finetune_gaze_mlp --no-finetune_gaze_mlp --gaze_mlp_layers --save_dir --checkpoint_path --l1_loss
        --mask_l1_loss --vgg_loss --vgg_weights --mask_path --seed --device --precision --log_every --sample_every
        --checkpoint_every --resume --overwrite --debug --image --mask --face --gaze --head --dry_run"""
    assert set(flags.split()) <= set(re.findall(r"--[\w-]+", capsys.readouterr().out))


@pytest.mark.parametrize("columns", [60, 80])
def test_help_fits_the_terminal_and_names_what_is_legal(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        parse_command(["--help"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns and text.isascii()
    text = " ".join(text.split())
    assert "(whole number >= 1 and <= 1000000; default: 500)" in text
    assert "(imagenet | random | PATH; default: imagenet)" in text


def test_nothing_slow_is_imported():
    code = (
        "import sys, vaegaze.config; print(sorted({'torch', 'numpy', 'h5py', 'matplotlib', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# -------------------------------------------------------------------------------------------------------- in writing


@pytest.mark.parametrize(
    "flags",
    [
        "--hdf_path a.h5",
        "--hdf_path /a:b/c#d --person_id 03523 --learning_rate 1e-20 --l1_loss 1e22",
        "--hdf_path null --person_id no --finetune_gaze_mlp --gaze_mlp_layers last all",
        "--hdf_path é\u2028\U0001f600\udcff --person_id 08",
        "--no-use_gazecapture --image a --mask b --gaze -1e-9 0.3 --head 0.3 0.3",
    ],
)
def test_yaml_reads_back_to_the_same(parse, flags):
    config = parse(flags).config
    text = to_yaml(config)
    assert parse("", text).config == config
    assert to_yaml(parse("", text).config) == text
    person_id = config.oneshot_params.gazecapture_params.person_id
    assert person_id is None or f'person_id: "{person_id}"\n' in text


def test_describe_says_where_each_value_came_from(parse):
    text = describe(parse("--num_samples 5", in_run("num_steps: 7")).resolved)
    lines = text.splitlines()
    assert lines[0] == "file = x.yaml"
    assert {"oneshot_params", SECTION, "oneshot_params.photo_params", "loss_params"} <= set(lines)
    rows = {tuple(line.split()) for line in lines}
    assert {("num_samples", "5", "--num_samples"), ("num_steps", "7", "file"), ("seed", "0", "default")} <= rows
    assert len(rows) >= len(settings_of(Config))
    assert sorted(map(len, lines))[-4] <= 60  # only the three long default paths stick out


# ---------------------------------------------------------------------------------------------------- another tree


@dataclass(frozen=True)
class Widths:
    """How wide the model is."""

    unet: Mapping = option({"layers": 2}, help="widths of the UNet")
    vae: Mapping[str, int] | None = option(None, help="widths of the autoencoder")
    scale: float | None = option(None, help="in %", above=0, unit="mm")


@dataclass(frozen=True)
class Pretraining:
    """Another command's settings."""

    widths: Widths = Widths()
    names: tuple[str, ...] | None = option(None, help="names")
    steps: int = option(3, help="steps", low=1)


def test_the_same_machinery_serves_another_tree(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("widths:\n  unet: {channels: [8, 16], act: 'silu', mid: {heads: 2}}\nnames: [a, '1']\n")
    parser = FlagParser(prog="p")
    parser.add_argument("--fast", action="store_true")
    resolved, others = read_command(parser, Pretraining, ["--config", str(path), "--steps", "9", "--scale", "1"])
    config = resolved.config
    assert config.widths.unet == {"channels": [8, 16], "act": "silu", "mid": {"heads": 2}}
    assert (config.widths.scale, config.names, config.steps, others) == (1.0, ("a", "1"), 9, {"fast": False})
    path.write_text(to_yaml(config))
    assert resolve(Pretraining, str(path)).config == config
    assert "--unet" not in parser.format_help() and "in % (number > 0 mm)" in parser.format_help()
    assert "steps" in describe(resolved)


def test_free_mappings_are_checked_too(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("widths:\n  unet:\n    a: 1\n    a: 2\n    no: 3\nsteps: 0\n")
    with pytest.raises(ConfigError) as caught:
        resolve(Pretraining, str(path))
    assert [problem.removeprefix(f"{path}, ") for problem in caught.value.problems] == [
        "line 4: widths.unet.a: given twice, first on line 3; keep one",
        "line 6: steps: got 0; expected whole number >= 1",
    ]
    path.write_text(
        "widths: {unet: {no: 10, b: '010', c: yes, d: 2024-01-02, e: 1_000}}"
    )  # contents as YAML types them
    read = {"no": 10, "b": "010", "c": True, "d": "2024-01-02", "e": 1000}
    assert resolve(Pretraining, str(path)).config.widths.unet == read
    for misread, number in (("010", 8), ("12:00:00", 43200)):  # the second as a limit of SLURM's, in minutes
        path.write_text(f"widths: {{unet: {{no: [{misread}]}}}}")
        with pytest.raises(ConfigError, match=f"line 1: widths.unet: got {misread}, which YAML reads as {number}"):
            resolve(Pretraining, str(path))
    path.write_text("widths: {unet: 3}")
    with pytest.raises(ConfigError, match=r"widths\.unet: got 3; expected mapping$"):
        resolve(Pretraining, str(path))


def test_defaults_are_not_shared():
    first = resolve(Pretraining).config
    first.widths.unet["layers"] = 99
    assert resolve(Pretraining).config.widths.unet == {"layers": 2}


def test_angles_reach_to_a_right_angle():
    flags = {"use_gazecapture": False, "image": "a", "mask": "b", "gaze": [math.pi / 2, -math.pi / 2]}
    assert resolve(Config, flags=flags).config.oneshot_params.photo_params.gaze == (math.pi / 2, -math.pi / 2)


def test_angles_in_degrees(parse):
    photo = parse("--no-use_gazecapture --image a --mask b --gaze_deg -90 20 --head 0 0.1").config
    assert photo.oneshot_params.photo_params.gaze == (-math.pi / 2, math.radians(20))
    assert photo.oneshot_params.photo_params.head == (0.0, 0.1)
    content = in_run("use_gazecapture: false", "photo_params: {image: a, mask: b, gaze_deg: [5, -5], head_deg: [1, 2]}")
    command = parse("", content.replace("  gazecapture_params: {hdf_path: a.h5}\n", ""))
    assert command.config.oneshot_params.photo_params.gaze == pytest.approx((0.0873, -0.0873), abs=1e-4)
    assert parse("", to_yaml(command.config)).config == command.config
    command = parse("--gaze 0.3 0.3", content.replace("  gazecapture_params: {hdf_path: a.h5}\n", ""))
    assert command.config.oneshot_params.photo_params.gaze == (0.3, 0.3)


def test_angles_that_are_wrong(problems):
    photo = "--no-use_gazecapture --image a --mask b"
    (problem,) = problems(f"{photo} --gaze_deg 10 95")
    assert problem.endswith("got ['10', '95']; expected list of 2, each a number >= -90 and <= 90 degrees | null")
    (problem,) = problems(f"{photo} --gaze_deg 1 1 --gaze 0 0")
    assert problem.endswith("given both in radians and in degrees; keep one")
    (problem,) = problems(f"{photo} --gaze 0 0", in_run("photo_params: {head: [0, 20]}"))
    assert problem.endswith("looks like degrees: 20° is 0.35, or use head_deg")
