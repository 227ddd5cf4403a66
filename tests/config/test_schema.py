"""The JSON schema that an editor checks the YAML by."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from conftest import process_restored

from vaegaze.commands import pretrain, train
from vaegaze.config.finetune import Config
from vaegaze.config.schema import json_schema

ROOT = Path(__file__).parents[2]


class EditorsLoader(yaml.SafeLoader):
    """YAML 1.2, as editors read it: 5e-5 is a number."""


EditorsLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?$"), list("-+.0123456789")
)


def load(path):
    return yaml.load(path.read_text(encoding="utf-8"), EditorsLoader)


@pytest.fixture
def printed_schema(capsys):
    def printed_schema(command):
        with process_restored(), pytest.raises(SystemExit) as caught:
            command.main(["--schema"])
        assert caught.value.code == 0
        return json.loads(capsys.readouterr().out)

    return printed_schema


@pytest.mark.parametrize(("command", "folder"), [(train, "finetune"), (pretrain, "pretrain")])
def test_every_shipped_file_fits_the_printed_schema(printed_schema, command, folder):
    schema = printed_schema(command)
    jsonschema.Draft7Validator.check_schema(schema)
    paths = sorted((ROOT / "configs" / folder).rglob("*.yaml"))
    assert paths
    for path in paths:
        jsonschema.validate(load(path), schema)


@pytest.mark.parametrize(
    "params",
    [
        {"num_step": 3},
        {"num_steps": 0},
        {"num_steps": 2.5},
        {"learning_rate": 0},
        {"learning_rate": None},
        {"mirror": "true"},
        {"finetune_strategy": "selectiv"},
        {"gaze_mlp_layers": []},
        {"device": "gpu"},
        {"photo_params": {"gaze": [0, 3]}},
        {"photo_params": {"gaze": [0]}},
        {"photo_params": {"gaze_deg": [0, 91]}},
    ],
)
def test_what_the_schema_refuses(params):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"oneshot_params": params}, json_schema(Config, "x"))


@pytest.mark.parametrize(
    "params",
    [
        None,
        {"gazecapture_params": {"person_id": 2, "mask_path": None}},
        {"gazecapture_params": {"person_id": "00002"}},
        {"device": "cuda:1", "num_steps": 500.0, "gaze_mlp_layers": ["last", "all"]},
        {"photo_params": {"gaze": [0, 1.5], "head_deg": [0, -90]}},
    ],
)
def test_what_the_schema_accepts(params):
    jsonschema.validate({"oneshot_params": params}, json_schema(Config, "x"))


def test_an_editor_can_show_what_a_key_is_for():
    run = json_schema(Config, "x")["properties"]["oneshot_params"]["properties"]
    assert run["num_steps"] == {
        "description": "training steps",
        "type": "integer",
        "minimum": 1,
        "maximum": 1000000,
        "default": 500,
    }
