"""``python -m rl_zoo3.benchmark`` runs the ``enjoy.py`` of the working directory, as in a checkout of RL Zoo."""

from rl_zoo3.enjoy import enjoy

from sb3_maxent.zoo import register

if __name__ == "__main__":
    register()
    enjoy()
