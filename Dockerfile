# Both algorithms and RL Zoo on the CPU. Nobody has built this image yet.
FROM python:3.11-slim

# The compiler is for compile=True
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /sb3-maxent
COPY . .
RUN PIP_INDEX_URL=https://download.pytorch.org/whl/cpu pip install --no-cache-dir torch==2.13.0 \
    && pip install --no-cache-dir -c constraints.txt ".[zoo,mujoco]"

RUN useradd --create-home user
USER user
WORKDIR /home/user
# A volume that is mounted here belongs to the user
RUN mkdir logs
CMD ["python", "-m", "rl_zoo3.train", "--help"]
