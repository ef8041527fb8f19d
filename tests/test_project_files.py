"""What the package index and the repository show: links that lead somewhere, versions that agree, workflows that parse."""

import ast
import csv
import inspect
import json
import re
import runpy
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import sb3_maxent

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REPOSITORY = PYPROJECT["tool"]["sb3-maxent"]["repository"]
FOLDERS = [ROOT / name for name in ("docs", "benchmarks", ".github")]
PAGES = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in folder.rglob("*.md"))]


@pytest.fixture
def hatch_build(monkeypatch):
    """The file that Hatchling runs, without Hatchling, which only building needs"""
    interface = ModuleType("hatchling.metadata.plugin.interface")
    interface.MetadataHookInterface = object
    for name in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    return runpy.run_path(str(ROOT / "hatch_build.py"))


def test_links_of_the_readme_work_on_the_package_index(hatch_build):
    hook, metadata = hatch_build["CustomMetadataHook"](), {}
    hook.root = str(ROOT)
    hook.update(metadata)
    links = re.findall(r"\]\(([^)]+)\)", metadata["readme"]["text"])
    assert len(links) > 10 and all(link.startswith("https://") for link in links)
    tag = f"v{sb3_maxent.__version__}"
    ours = [link.removeprefix(REPOSITORY).split("/", 3) for link in links if link.startswith(REPOSITORY)]
    assert len(ours) > 5
    for _, kind, version, path in ours:
        assert version == tag and (ROOT / path).is_file()
        assert kind == ("raw" if path.endswith((".png", ".gif")) else "blob")
    assert metadata["urls"]["Repository"] == REPOSITORY


def test_links_that_stay_as_they_are(hatch_build):
    links = "[a](https://a.b/c) [b](#there) [c](mailto:d@e)"
    assert hatch_build["absolute_links"](links, "https://r", "1") == links
    assert hatch_build["absolute_links"]("![p](d/p.png) [q](d/q.md)", "https://r", "1") == (
        "![p](https://r/raw/v1/d/p.png) [q](https://r/blob/v1/d/q.md)"
    )


def test_the_address_of_the_repository_is_in_one_place():
    files = [*PAGES, *ROOT.glob("*.*"), *(ROOT / ".github").rglob("*.*"), *(ROOT / "docs").glob("*.py")]
    name = REPOSITORY.removeprefix("https://github.com/")
    texts = [path for path in files if path.is_file() and path.suffix not in (".png", ".gif")]
    found = [path.name for path in texts if name in path.read_text(errors="ignore")]
    assert found == ["pyproject.toml"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\]\((?!\w+:|#)([^)\s]+)\)", text)]
    assert [target for target in targets if not (page.parent / target).exists()] == []


TASKS = ("HalfCheetah-v4", "Walker2d-v4", "Hopper-v4", "Ant-v4", "Humanoid-v4")
# Those with runs of the present settings, or of RL Zoo's for SAC
EXPERIMENTS = {
    "sac": ("mujoco-150k", "recipe-first", "mujoco-300k"),
    "dspg": ("recipe", "samples", "small-output-first", "mujoco-300k"),
}


def recorded_returns(algorithm, task, steps):
    """
    Returns of all seeds after a number of steps, by the average of the actors where it was evaluated. A seed that was run
    several times has the mean of its runs.

    :param algorithm: Algorithm
    :param task: Task
    :param steps: Number of steps
    :return: Returns in the order of the seeds
    """
    results, averaged = ROOT / "benchmarks" / "results", {}
    for env, seed, at, way, *returns in csv.reader((results / "acting.csv").open()):
        if (algorithm, env, at, way) == ("dspg", task, str(steps), "average of 2000"):
            averaged[int(seed)] = [sum(map(float, returns)) / len(returns)]
    found = dict(averaged)
    for file in (file for name in EXPERIMENTS[algorithm] for file in (results / name).glob(f"{algorithm}_{task}_*.json")):
        run = json.loads(file.read_text())
        evaluations = dict(zip(run["evaluations"]["timesteps"], run["evaluations"]["mean_return"], strict=True))
        # In "recipe" some runs act by the newest actor. One of them was evaluated by the average again
        if steps in evaluations and not (file.parent.name == "recipe" and run["seed"] in averaged):
            found[run["seed"]] = [*found.get(run["seed"], []), evaluations[steps]]
    return [sum(runs) / len(runs) for _, runs in sorted(found.items())]


def published_returns(algorithm, steps):
    published = yaml.safe_load((ROOT / "benchmarks" / "published.yml").read_text())["published"]
    [entry] = [
        entry
        for entry in published
        if (entry["algo"], entry["steps"]) == (algorithm, steps) and "DAVIAN" in entry["source"] and entry["task"] == "v4"
    ]
    return entry["returns"]


def rows_of_results(steps):
    """Rows of the README's table"""
    rows = []
    for label, algorithm in (("DSPG", "dspg"), ("SAC", "sac")):
        cells = (", ".join(f"{each:.0f}" for each in recorded_returns(algorithm, task, steps)) for task in TASKS)
        rows.append(f"| {label}, {steps:,} steps | {' | '.join(cell or 'not run' for cell in cells)} |")
    for label, algorithm in (("SAC", "sac"), ("CrossQ", "crossq")):
        cells = (str(published_returns(algorithm, steps)[task]) for task in TASKS)
        rows.append(f"| {label}, {steps:,} steps, published | {' | '.join(cells)} |")
    return rows


@pytest.mark.parametrize("steps", [100_000, 300_000])
def test_results_of_the_readme_are_those_of_the_files(steps):
    for row in rows_of_results(steps):
        assert row in (ROOT / "README.md").read_text()


def last_returns(experiment, name, env):
    files = sorted((ROOT / "benchmarks" / "results" / experiment).glob(f"{name}_{env}_*.json"))
    return [f"{json.loads(file.read_text())['evaluations']['mean_return'][-1]:.0f}" for file in files]


def test_last_returns_of_the_pages_are_those_of_the_files():
    benchmarks = (ROOT / "benchmarks" / "README.md").read_text()
    labels = {"dspg": "DSPG", "sac": "SAC"}
    files = sorted((ROOT / "benchmarks" / "results" / "mujoco-300k").glob("*_1.json"))
    runs = [run for run in map(json.loads, (file.read_text() for file in files)) if run["name"] in labels]
    assert len(runs) >= 4
    for run in runs:
        returns = dict(zip(*(run["evaluations"][column] for column in ("timesteps", "mean_return")), strict=True))
        cells = [returns[steps] for steps in range(50_000, 300_001, 50_000)] + [max(returns.values())]
        assert f"| {run['env']} | {labels[run['name']]} | {' | '.join(f'{cell:.0f}' for cell in cells)} |" in benchmarks
    names = {
        "SoftQLearning": "softqlearning-normalised",
        "SoftQLearning, plain networks": "softqlearning",
        "SAC": "sac",
    }
    page = (ROOT / "docs" / "softqlearning.md").read_text()
    for label, name in names.items():
        cells = [", ".join(last_returns("mujoco-150k", name, env)) for env in ("HalfCheetah-v4", "Hopper-v4")]
        assert f"| {label} | {cells[0]} | {cells[1]} |" in page
    rows = {
        "SoftQLearning, `ent_coef=0.1`": "temperature/softqlearning-hot",
        "SoftQLearning, `ent_coef=0.0333`": "acting/softqlearning",
        "SAC": "mujoco-150k/sac",
    }
    for label, name in rows.items():
        found = []
        for seed in (1, 2):
            run = json.loads((ROOT / "benchmarks" / "results" / f"{name}_Hopper-v4_{seed}.json").read_text())["evaluations"]
            found.append(dict(zip(run["timesteps"], run["mean_return"], strict=True)))
        cells = (", ".join(f"{run[steps]:.0f}" for run in found) for steps in (60_000, 80_000, 100_000))
        assert f"| {label} | {' | '.join(cells)} |" in page


def normalised_mean(returns):
    """Mean over the tasks, in the order of ``TASKS``, where 0 is a random policy and 1 is published TD3"""
    normalization = yaml.safe_load((ROOT / "benchmarks" / "published.yml").read_text())["normalization"]
    bounds = (normalization[task] for task in TASKS)
    return sum((value - random) / (td3 - random) for value, (random, td3) in zip(returns, bounds, strict=True)) / len(TASKS)


def test_means_of_the_tasks_are_those_of_the_files():
    means = [
        normalised_mean([sum(seeds) / len(seeds) for seeds in (recorded_returns("dspg", task, 100_000) for task in TASKS)]),
        *(normalised_mean([published_returns(algorithm, 100_000)[task] for task in TASKS]) for algorithm in ("crossq", "sac")),
    ]
    ours, crossq, sac = (f"{mean:.2f}" for mean in means)
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"published TD3, is {ours} for DSPG. It is {crossq} for published CrossQ and {sac} for published SAC." in text


def ratios_of(processor):
    """Time of an update of each algorithm, with two layers of 256 units, to that of SAC"""
    rows = csv.DictReader((ROOT / "benchmarks" / "results" / f"speed-{processor}.csv").open())
    return {(row["name"], row["samples"]): row["ratio"] for row in rows if row["width"] == "256"}


def test_times_of_the_pages_are_those_of_the_table():
    ratios, ratios_zen4, ratios_avx2, ratios_intel = map(
        ratios_of, ("amd-epyc-avx512", "amd-epyc-family-25-avx512", "amd-epyc-avx2", "intel-xeon-avx512")
    )
    eager, compiled = (ratios[name, ""] for name in ("DSPG, defaults", "DSPG, defaults, compiled"))
    soft, soft_compiled = (ratios[name, ""] for name in ("SoftQLearning", "SoftQLearning compiled"))
    mujoco, mujoco_compiled = (ratios[f"SoftQLearning normalised{name}", ""] for name in ("", " compiled"))
    soft_row = f"{soft}, compiled {soft_compiled}; on HalfCheetah and Hopper {mujoco}, compiled {mujoco_compiled}"
    assert f"| 1 | {eager}, compiled {compiled} | {soft_row} |" in (ROOT / "docs/choosing.md").read_text()
    steps = csv.DictReader((ROOT / "benchmarks" / "results" / "step_time.csv").open())
    of_dspg = [float(row["ratio"]) for row in steps if (row["experiment"], row["name"]) == ("mujoco-300k", "dspg")]
    readme = (ROOT / "README.md").read_text()
    assert f"step takes {min(of_dspg):.2f} to {max(of_dspg):.2f} times as long as SAC's on Zen 4" in readme
    columns = (ratios_intel, ratios, ratios_zen4, ratios_avx2)
    for name in ("DSPG, defaults, compiled", "DSPG, defaults"):
        assert f" | {' | '.join(each[name, ''] for each in columns)} |" in readme
    names = [("DSPG", "64"), ("DSPG compiled", "64"), ("DSPG", "4"), ("DSPG compiled", "4")]
    names += [(f"DSPG, defaults{end}", "") for end in ("", ", compiled")]
    names += [(f"SoftQLearning{end}", "") for end in ("", " compiled", " normalised", " normalised compiled")]
    table = re.findall(r"^\|.*" + 4 * r" \| ([\d.]+)" + r" \|$", (ROOT / "docs" / "speed.md").read_text(), re.MULTILINE)
    assert table == [tuple(column[name] for column in columns) for name in (*names, ("SBX SAC", ""))]


@pytest.mark.parametrize(("algorithm", "page"), [(sb3_maxent.DSPG, "dspg.md"), (sb3_maxent.SoftQLearning, "softqlearning.md")])
def test_defaults_of_the_pages_are_those_of_the_classes(algorithm, page):
    row = r"^\| (?:`policy_kwargs`: )?`([a-z]\w+)` \| `?([^|`]+)`?(?:, half of `\"auto\"`)? \| "
    rows = re.findall(row, (ROOT / "docs" / page).read_text(), re.MULTILINE)
    assert len(rows) > 8
    classes = (algorithm, *algorithm.policy_aliases["MlpPolicy"].mro()[:-1])
    defaults = [inspect.signature(each.__init__).parameters for each in classes]
    for name, value in rows:
        default = next(parameters[name].default for parameters in defaults if name in parameters)
        assert default == ast.literal_eval(value), name


def test_default_networks_of_dspg():
    model = sb3_maxent.DSPG("MlpPolicy", "Pendulum-v1", buffer_size=1)
    assert model.critic.batch_norm and model.critic.unit_norm and model.target_entropy == -0.5 and model.norm_reward
    plain = sb3_maxent.DSPG("MlpPolicy", "Pendulum-v1", buffer_size=1, policy_kwargs={"batch_norm": False})
    assert not plain.critic.batch_norm and not plain.critic.unit_norm


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


def test_versions_agree():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == sb3_maxent.__version__
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    for name in ("Dockerfile", ".readthedocs.yaml", "docs/install.md"):
        assert re.findall(r"torch==([\d.]+)", (ROOT / name).read_text()) == [pinned], name


def test_the_workflow_runs_what_the_readme_says():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = {name: [step.get("run", "") for step in job["steps"]] for name, job in jobs.items()}
    assert "bash .ci/run" in commands["tests"] and "make docs" in commands["documentation"]
    oldest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    assert jobs["tests"]["strategy"]["matrix"]["python-version"][0] == oldest
    lowest = " ".join(commands["lowest-versions"])
    for requirement in PYPROJECT["project"]["dependencies"]:
        name, version = re.match(r"(\w+)>=([\d.]+)", requirement).groups()
        assert f"{name}=={version}" in lowest


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_forms_can_be_read(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


WAYS = ("largest Q of the denser half", "largest Q", "densest", "zero noise", "sample")


@pytest.mark.parametrize(
    ("row", "env", "first"),
    [
        ("MultiGoal-v0, five models", "MultiGoal-v0", 0),
        ("HalfCheetah-v4, 30,000 to 80,000 steps of one run", "HalfCheetah-v4", 30_000),
        ("Hopper-v4, 70,000 to 150,000 steps of two runs", "Hopper-v4", 70_000),
    ],
)
def test_ways_to_act_of_the_page_are_those_of_the_file(row, env, first):
    returns: dict[str, list[float]] = {way: [] for way in WAYS}
    with (ROOT / "benchmarks" / "results" / "acting_softqlearning.csv").open() as file:
        for task, _, steps, way, *episodes in csv.reader(file):
            if task == env and int(steps) >= first and way in returns:
                returns[way].append(sum(map(float, episodes)) / len(episodes))
    means = " | ".join(f"{sum(values) / len(values):.0f}" for values in returns.values())
    with (ROOT / "benchmarks" / "results" / "acting_saved_models.csv").open() as file:
        saved = [(way, sum(map(float, episodes)) / len(episodes)) for _, _, _, way, *episodes in csv.reader(file)]
    half, both = (sum(mean for name, mean in saved if name == way) / 4 for way in WAYS[:2])
    page = " ".join((ROOT / "docs" / "softqlearning.md").read_text().split())
    assert f"return {half:.0f} with the denser half and {both:.0f} with all 32" in page
    assert f"| {row} | {means} |" in (ROOT / "docs" / "softqlearning.md").read_text()
