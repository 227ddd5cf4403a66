"""Every benchmark says beforehand what it will cost, or is over soon."""

import pkgutil
import re
from importlib import import_module

import pytest
from command_runs import ROOT
from conftest import process_restored

import benchmarks
from benchmarks import forecast, gpu

QUICK = {"person_loading", "rendering"}  # over within two minutes
IN_ITS_OWN_WORDS = {"step_time"}  # see test_benchmarks.py
ASKS = {"cohort": ["speed"], "photographs": [str(ROOT / "docs" / "images")], "autoencoder": ["--vae", "vae.pth"],
        "torture.__main__": ["--kills", "500", "--faults", "all", "--hostile", "10000"],
        "gpu": ["--device", "cpu"]}  # fmt: skip


class Said(Exception):
    """What comes next would be the benchmark itself."""


def commands() -> list[str]:
    """The modules that can be run."""
    paths = pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")
    found = [each.name.removeprefix("benchmarks.") for each in paths if not each.ispkg]
    sources = {name: ROOT / "benchmarks" / f"{name.replace('.', '/')}.py" for name in found}
    return [name for name, path in sources.items() if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", sorted({*commands()} - QUICK - IN_ITS_OWN_WORDS))
def test_it_says_what_it_will_cost(name, tmp_path, monkeypatch, capsys):
    """And that before anything is written."""
    module = import_module(f"benchmarks.{name}")

    def stop(*given):
        forecast.say_beforehand(*given)
        raise Said

    monkeypatch.setattr(module, "say_beforehand", stop)
    monkeypatch.setattr(module, "preloaded", lambda library: None, raising=False)  # else it starts this process anew
    for stored in ("checkpoints", "docs"):
        (tmp_path / stored).symlink_to(ROOT / stored)
    monkeypatch.chdir(tmp_path)
    with process_restored(), pytest.raises(Said):
        module.main(ASKS.get(name, []))
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoints", "docs", "outputs"}
    assert not [path for path in tmp_path.glob("outputs/**/*") if path.suffix != ".json" and path.is_file()]
    (line,) = capsys.readouterr().err.splitlines()
    minutes = re.fullmatch(r".*\d.*: about (\d+) minutes? on two cores", line)
    assert minutes and 1 <= int(minutes[1]) < 24 * 60, line


def test_the_exceptions_exist():
    assert {*commands()} >= QUICK | IN_ITS_OWN_WORDS


def test_more_costs_more(tmp_path):
    few, many = (gpu.cost(gpu.GpuParams(device="cpu", size="tiny", steps=steps), 1)[1] for steps in (100, 1000))
    assert few < many < gpu.cost(gpu.GpuParams(device="cpu", steps=1000), 1)[1]
    assert gpu.cost(gpu.GpuParams(device="cuda"), 3)[1] < gpu.cost(gpu.GpuParams(device="cpu"), 1)[1]


def test_bf16_is_not_emulated_for_its_curve(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "has_native_bf16", lambda device: False)

    def stop(what, seconds):
        raise Said(what)

    monkeypatch.setattr(gpu, "say_beforehand", stop)
    flags = ["--device", "cpu", "--size", "tiny", "--output", str(tmp_path / "docs" / "trial.md")]
    with process_restored(), pytest.raises(Said, match="1 curves of 150 steps"):
        gpu.main(flags)
    assert capsys.readouterr().out == "cpu only emulates bf16: its bf16 curve is left out\n"
