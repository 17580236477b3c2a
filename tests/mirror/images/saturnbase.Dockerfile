# Offers what Saturn Cloud's saturnbase-python offers to a postBuild: the user jovyan with sudo, conda and JupyterLab in
# /opt/saturncloud, an environment `saturn` with nothing in it.  Not: Ubuntu, mamba, sshd, and its tools for the platform.
FROM debian:bookworm-slim
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bzip2 ca-certificates curl git sudo \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 --shell /bin/bash jovyan \
 && echo "jovyan ALL=(ALL) NOPASSWD:ALL" > /etc/sudoers.d/notebook
COPY --chown=1000:1000 conda /opt/saturncloud
ENV CONDA_DIR=/opt/saturncloud CONDA_BIN=/opt/saturncloud/bin NB_USER=jovyan NB_UID=1000 USER=jovyan HOME=/home/jovyan \
    SHELL=/bin/bash LANG=C.UTF-8 LC_ALL=C.UTF-8 NB_PYTHON_PREFIX=/opt/saturncloud/envs/saturn
ENV PATH=/opt/saturncloud/envs/saturn/bin:/opt/saturncloud/bin:/home/jovyan/.local/bin:${PATH}
EXPOSE 8888
USER jovyan
RUN /opt/saturncloud/bin/python -m compileall -q /opt/saturncloud/lib/python3*/site-packages
WORKDIR /home/jovyan
CMD ["/bin/bash"]
