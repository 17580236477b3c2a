# Offers what condaforge/miniforge3 offers, but for mamba (not on PyPI) and Ubuntu (this is Debian).
FROM debian:bookworm-slim
ENV CONDA_DIR=/opt/conda LANG=C.UTF-8 LC_ALL=C.UTF-8
ENV PATH=/opt/conda/bin:${PATH}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends bzip2 ca-certificates git tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 --shell /bin/bash ubuntu
COPY conda /opt/conda
RUN /opt/conda/bin/python -m compileall -q /opt/conda/lib/python3*/site-packages \
 && for file in /etc/skel/.bashrc /root/.bashrc; do \
      echo '. /opt/conda/etc/profile.d/conda.sh && conda activate base' >> "$file"; \
    done
ENTRYPOINT ["tini", "--"]
CMD ["/bin/bash"]
