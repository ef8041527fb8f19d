# The targets of Stable-Baselines3
SHELL = /bin/bash
PATHS = sb3_maxent tests examples benchmarks docs enjoy.py hatch_build.py

pytest:
	python -m pytest

pytest-slow:
	python -m pytest -m slow

mutants:
	mutmut run --max-children 2
	mutmut results

type:
	mypy sb3_maxent

lint:
	ruff check $(PATHS)

format:
	ruff check --select I $(PATHS) --fix
	black $(PATHS)

check-codestyle:
	ruff check --select I $(PATHS)
	black --check $(PATHS)

commit-checks: format type lint

docs:
	sphinx-build -W --keep-going -j auto docs docs/_build/html

# Pages with the lines <!-- table NAME --> get the tables too
report:
	python -m benchmarks.report --into docs/choosing.md

.PHONY: pytest pytest-slow mutants type lint format check-codestyle commit-checks docs report
