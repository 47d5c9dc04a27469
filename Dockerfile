# One image for each kind of machine: docker build --target=tpu --tag=IMAGE . (targets: cpu, gpu, tpu)
# The base image has a Python that all TensorFlows of pyproject.toml have wheels for; tensorflow-tpu 2.19 ends at 3.12.
FROM python:3.12-slim-bookworm AS project
ENV LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1
WORKDIR /app
COPY pyproject.toml README.md LICENSE main.py ./
COPY efficientnet_tpu efficientnet_tpu
COPY flags flags

# The versions are those of pyproject.toml's extras: hence the ignored rule, which asks for versions of '.[cpu]'.
FROM project AS cpu
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[cpu]' && useradd --create-home --uid=1000 trainer
USER 1000
ENTRYPOINT ["python", "main.py"]

# CUDA comes with TensorFlow's wheels; the driver, from the host, by docker run --gpus all.
FROM project AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[gpu]' && useradd --create-home --uid=1000 trainer
USER 1000
ENTRYPOINT ["python", "main.py"]

# As root: the TPU's device files belong to it. docker run --privileged, or GKE's google.com/tpu.
FROM project AS tpu
# hadolint ignore=DL3013
RUN pip install --no-cache-dir '.[tpu]'
ENTRYPOINT ["python", "main.py"]
