"""Every command in the README works: each line of its bash blocks is run here, small, or has its target run by CI.

The README is read as a newcomer would follow it: in a checkout, with the environment entered as it says. A line that no
rule below covers fails, and so does a rule that no line needs.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from helpers import copy_checkout
from hwr_utils import synthesis

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, block in FENCES if kind == "bash" for line in block.splitlines() if line]


@dataclass(frozen=True)
class Rule:
    """How a line of the README is checked.

    Attributes:
        line: regular expression of the whole line.
        run: what is run instead, as a template over the match; the line itself where nothing needs to be smaller.
        code: the exit status.
        says: regular expression found in what it prints.
    """

    line: str
    run: str = r"\g<0>"
    code: int = 0
    says: str = ""


# A run on the tiny set of the fixture in place of the published one, or of a drawn one of full size.
TINY_RUN = "--set epochs=1 --set train_size=100"
# the page shows the one run that was made for it
TINY_NOTEBOOK = "-p epochs 1 -p train_size 100 --output _build/done.ipynb && ls results && cat _build/done.ipynb"
ITS_RUN = r"(?s)\n(digits-synthetic-simple_cnn-custom-s3-[0-9a-f]{8})\n.*\1"

RULES = (
    # What a target runs is read off a dry run. CI runs study, book and test: see test_ci_runs_the_first_commands.
    Rule(r"make study", r"\g<0> --dry-run", says=r"environment\.py[^$]*-m snakemake"),
    Rule(r"make book", r"\g<0> --dry-run", says=r"environment\.py[^$]*-m snakemake book"),
    Rule(r"make test", r"\g<0> --dry-run", says=r"environment\.py[^$]*-m ruff[^$]*-m mypy[^$]*-m pytest[^$]*--nbval"),
    Rule(r"(\.venv/bin/python -m http\.server) --directory _build/html", r"\1 --help", says="--directory"),
    Rule(r"source \.venv/bin/activate", r"\g<0> && command -v hwr", says=r"\.venv/bin/hwr"),
    Rule(r"hwr synthesize digits-\S+", r"\g<0> --data-root _build/drawn --n-train 200 --n-test 100"),
    Rule(r"hwr notebook .*digits-synthetic.*", rf"\g<0> {TINY_NOTEBOOK}", says=ITS_RUN),
    # with a network this fetches; without one it says what to put where
    Rule(r"hwr download \S+", code=2, says=r"could not be downloaded.*get .* and put them into"),
    Rule(r"(hwr train) --dataset kmnist (.*)", rf"\1 --dataset digits-synthetic \2 {TINY_RUN}", says="test accuracy"),
    Rule(r"hwr train --dataset custom:mine .*", rf"\g<0> {TINY_RUN}", says="test accuracy"),
    # of the run that the line for custom:mine made; test_quantization.py makes every format
    Rule(r"hwr quantize results/custom-mine-\S+", r"\g<0> --formats dynamic_int8.tflite", says=r"dynamic_int8\.tflite"),
    Rule(r"hwr predict .* --model \S+", says=r"/a/0\.png: (no likely character \()?[ab] \d"),
)


def rules_of(command: str) -> list[Rule]:
    """Return the rules that a line of the README matches."""
    return [rule for rule in RULES if re.fullmatch(rule.line, command)]


def draw(labels: np.ndarray) -> np.ndarray:
    """Return (N, 28, 28) uint8 images with a bar whose place tells the class."""
    images = np.zeros((len(labels), 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4:24, 2 * label + 2 : 2 * label + 5] = 255
    return images


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Copy the checkout, put tiny data into it, and return what runs a command there as the README says."""
    checkout = tmp_path_factory.mktemp("readme") / "a checkout"
    copy_checkout(checkout)
    (checkout / ".venv").symlink_to(sys.prefix)
    (checkout / "_build").mkdir()
    calibration = checkout / "hwr_utils" / "device" / "calibration.py"
    text = calibration.read_text()
    few = text.replace("(400, 0), (100, 1), (100, 2)", "(20, 0), (10, 1), (10, 2)")  # so many take minutes
    few = few.replace("WRITTEN = 5000", "WRITTEN = 200")
    assert few.count("(20, 0)") == few.count("WRITTEN = 200") == 1
    calibration.write_text(few)

    synthesis.write("digits-synthetic", checkout / "data", n_train=400, n_test=100)
    for part, n in (("train", 80), ("test", 10)):
        for label, name in enumerate("ab"):
            folder = checkout / "data" / "custom" / "mine" / part / name
            folder.mkdir(parents=True)
            for index, image in enumerate(draw(np.full(n, label))):
                Image.fromarray(255 - image).save(folder / f"{index}.png")

    (checkout / "node_modules").symlink_to(ROOT / "node_modules")

    # no settings of whoever runs the tests, the package of the copy and not the installed one, and no network
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HWR_", "MAKE", "MFLAGS"))}
    environment |= {"PYTHONPATH": str(checkout), "TQDM_DISABLE": "1"}
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment |= {"no_proxy": "localhost", "NO_PROXY": "localhost"}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        entered = f"source .venv/bin/activate && {command}"
        return subprocess.run(
            ["bash", "-c", entered],
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return run


def test_blocks_are_of_known_kinds() -> None:
    """A block of another kind would hide commands from these tests."""
    assert {kind for kind, _ in FENCES} <= {"bash", "text"}
    assert README.count("```") == 2 * len(FENCES)


def test_links_and_places_exist() -> None:
    table = README.partition("| place |")[2].partition("\n\n")[0].splitlines()[2:-1]  # the last is what commands make
    places = [place for row in table for place in re.findall(r"`([^`]+)`", row.split("|")[1])]
    for link in [*re.findall(r"\]\(([^)]+)\)", README), *places]:
        assert (ROOT / link).exists(), f"README: {link} is not there"


def test_every_command_has_a_rule_and_every_rule_a_command() -> None:
    for command in COMMANDS:
        found = len(rules_of(command))
        assert found == 1, f"README: {command!r} is covered by {found} rules and not by one"
    for rule in RULES:
        assert any(rule in rules_of(command) for command in COMMANDS), f"no command of the README needs {rule.line!r}"


@pytest.mark.parametrize("command", COMMANDS, ids=[command[:60] for command in COMMANDS])
def test_command(command: str, shell: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    for rule in rules_of(command):
        done = shell(re.sub(rule.line, rule.run, command))
        assert done.returncode == rule.code, f"{done.args[-1]}\n{done.stdout}"
        assert re.search(rule.says, done.stdout), f"{done.args[-1]}\n{done.stdout}"


def test_ci_runs_the_first_commands() -> None:
    """What is only looked at in a dry run above is run for real on each pull request or push."""
    workflows = [yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")]
    steps = [step.get("run", "") for flow in workflows for job in flow["jobs"].values() for step in job["steps"]]
    assert {".ci/run", "make study", "make book"} <= set(steps)
    assert "exec make test\n" in (ROOT / ".ci" / "run").read_text()
