"""Every Python block of README and docs/ runs, the blocks of a page one after the other, as a reader would type them."""

import re
import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```python$", re.MULTILINE)
PAGES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if FENCE.search(path.read_text())]
# Enough for some updates of every model
MOST_STEPS = 105


@pytest.fixture
def short_training(monkeypatch, tmp_path):
    """What takes hours for a reader takes seconds here; files go to a temporary folder"""
    learn = OffPolicyAlgorithm.learn

    def learn_a_little(self, total_timesteps, *args, **kwargs):
        # A model that goes on has no random steps before it
        return learn(self, min(total_timesteps, MOST_STEPS if self.num_timesteps == 0 else 10), *args, **kwargs)

    monkeypatch.setattr(OffPolicyAlgorithm, "learn", learn_a_little)
    monkeypatch.chdir(tmp_path)


def run(page: Path) -> dict[str, object]:
    """
    Run all blocks of a page.

    :param page: Markdown file
    :return: The names that they define
    """
    document = Document.parse(str(page), PythonCodeBlockParser(), SkipParser())
    for example in document:
        example.evaluate()
    return document.namespace


def test_no_page_is_forgotten():
    assert {"README.md", "quickstart.md", "dspg.md", "saving.md", "extending.md", "resuming.md"} <= {
        page.name for page in PAGES
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_run(page, short_training):
    assert len(list(Document.parse(str(page), PythonCodeBlockParser()))) >= len(FENCE.findall(page.read_text()))
    model = run(page).get("model")
    assert model is None or model.replay_buffer is not None


def test_a_wrong_block_fails(tmp_path, short_training):
    page = tmp_path / "page.md"
    page.write_text(
        "Text\n\n```python\nfrom sb3_maxent import DSPG\n```\n\n```python\nDSPG('MlpPolicy', 'Pendulum-v1', tua=1)\n```\n"
    )
    with pytest.raises(TypeError, match="tua"):
        run(page)


COMMAND = re.compile(
    r"^(?:\w+=\S+ )*python (?:-m )?(rl_zoo3\.\S+|sb3_maxent \w+|benchmarks\S+|examples\S+|pytest)(.*)$", re.MULTILINE
)
WITH_COMMANDS = [*PAGES, ROOT / "docs" / "results.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
COMMANDS = [(page.name, *match.groups()) for page in WITH_COMMANDS for match in COMMAND.finditer(page.read_text())]
PATH_ARGUMENT = re.compile(r"(?:hyperparams|tests|benchmarks|docs|trained_agents)/[\w/.-]+")


def script_of(name: str) -> Path:
    """
    File that a command runs.

    :param name: What follows ``python`` or ``python -m``
    :return: Its path
    """
    module = name.replace("sb3_maxent ", "rl_zoo3.").removesuffix(".py").replace("/", ".")
    folder, _, rest = module.partition(".")
    root = Path(find_spec("rl_zoo3").origin).parent if folder == "rl_zoo3" else ROOT / folder
    return root / (rest.replace(".", "/") + ".py")


@pytest.mark.parametrize(("page", "script", "arguments"), COMMANDS)
def test_commands_name_scripts_options_and_files_that_exist(page, script, arguments):
    """What they do is tested in ``tests/zoo``"""
    assert [path for path in PATH_ARGUMENT.findall(arguments.split(" > ")[0]) if not (ROOT / path).exists()] == []
    if script == "pytest":
        return
    source = script_of(script).read_text()
    # The beginning of an option is enough for argparse
    options = set(re.findall(r"(?:^| )(--?[a-z][\w-]*)", re.sub(r'"[^"]*"', "", arguments))) - {"--help"}
    assert [option for option in options if f'"{option}' not in source] == []


def test_there_are_commands():
    assert len(COMMANDS) > 25 and len({page for page, *_ in COMMANDS}) > 5


def test_links_of_the_site_to_the_repository_exist():
    """Sphinx knows the pages of the site, but not the files that they become links to"""
    conf, found = runpy.run_path(str(ROOT / "docs" / "conf.py")), set()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        source = [page.read_text()]
        conf["link_files"](None, str(page.relative_to(ROOT / "docs").with_suffix("")), source)
        found |= set(re.findall(rf"\]\({re.escape(conf['REPOSITORY'])}/blob/main/([^)#]+)", source[0]))
    assert {"hyperparams/dspg.yml", "benchmarks/README.md"} <= found
    assert [name for name in sorted(found) if not (ROOT / name).exists()] == []
