"""Package metadata that follows from the address of the repository: the links, and a README that works on a package index."""

import re
import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


def absolute_links(text: str, repository: str, version: str) -> str:
    """
    Replace links to files of the repository, which a package index does not have, by links to the tagged release.

    :param text: Markdown with links and pictures relative to the root of the repository
    :param repository: Address of the repository, without a slash at its end
    :param version: Version of the package; its tag is the version with a "v" in front
    :return: Markdown with absolute links
    """

    def replace(match: re.Match[str]) -> str:
        kind = "raw" if match["picture"] else "blob"
        return f"{match['picture']}[{match['label']}]({repository}/{kind}/v{version}/{match['target']})"

    # A target with a scheme, or an anchor of the same page, stays as it is
    link = r"(?P<picture>!?)\[(?P<label>[^\]]*)\]\((?!\w+:|#)(?P<target>[^)\s]+)\)"
    return re.sub(link, replace, text)


class CustomMetadataHook(MetadataHookInterface):
    """Hatchling finds it by its base class."""

    def update(self, metadata: dict[str, Any]) -> None:
        """
        Set the metadata that ``pyproject.toml`` calls dynamic.

        :param metadata: The ``project`` table of ``pyproject.toml``, changed in place
        """
        root = Path(self.root)
        project = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["sb3-maxent"]
        repository, documentation = project["repository"], project["documentation"]
        version = re.search(r'__version__ = "(.+)"', (root / "sb3_maxent" / "__init__.py").read_text())
        assert version is not None
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute_links((root / "README.md").read_text(), repository, version[1]),
        }
        metadata["urls"] = {
            "Repository": repository,
            "Documentation": documentation,
            "Changelog": f"{repository}/blob/main/CHANGELOG.md",
            "Issues": f"{repository}/issues",
            "Stable-Baselines3": "https://github.com/DLR-RM/stable-baselines3",
            "RL Zoo": "https://github.com/DLR-RM/rl-baselines3-zoo",
        }
