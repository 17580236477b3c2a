# Offers what kustomize's own image offers: the program in /app, which is the entry point and the working directory.
# Not: Alpine, git and ssh, for folders from elsewhere.
FROM debian:bookworm-slim
COPY kustomize /app/
WORKDIR /app
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/app
ENTRYPOINT ["/app/kustomize"]
