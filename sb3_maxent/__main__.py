"""
Run a script of RL Zoo with the algorithms of this package: ``python -m sb3_maxent train --algo dspg --env Hopper-v5``.

It does the same as ``python -m rl_zoo3.train ...``. Use it if Python does not read the startup file, or if the file is
switched off.
"""

import argparse
import runpy
import sys

from sb3_maxent.zoo import register

SCRIPTS = (
    "train",
    "enjoy",
    "record_video",
    "record_training",
    "benchmark",
    "load_from_hub",
    "push_to_hub",
    "plots.all_plots",
    "plots.plot_from_file",
    "plots.plot_train",
)


def main() -> None:
    """Register the algorithms, and run the script."""
    parser = argparse.ArgumentParser(
        prog="python -m sb3_maxent",
        description="Run a script of RL Zoo with the algorithms of sb3_maxent.",
        usage="%(prog)s [-h] script ...",
        epilog="For the arguments of a script: python -m sb3_maxent train --help",
    )
    parser.add_argument("script", choices=SCRIPTS, metavar="script", help=f"one of {', '.join(SCRIPTS)}")
    # Only the first argument belongs to this program. The script parses the others
    script = parser.parse_args(sys.argv[1:2]).script
    register()
    del sys.argv[1]
    runpy.run_module(f"rl_zoo3.{script}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
