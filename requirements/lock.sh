#!/usr/bin/env bash
# Resolves pyproject.toml once and writes two lock files that never overlap, hashes in, index addresses out:
#   torch.txt  torch, torchvision and the accelerator libraries that PyPI's Linux wheels depend on
#   visor.txt  everything else
# Two files, so that TORCH_INDEX can replace the first one whole (CPU wheels have other names and hashes).
# Needs uv on the PATH; `make lock` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
accelerator='^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)=='
whole=$(mktemp)
trap 'rm -f "$whole"' EXIT
compile=(uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --quiet
  --generate-hashes --no-emit-index-url --no-annotate --no-header)
"${compile[@]}" "$@" --output-file "$whole" >/dev/null

split() { # split FILE KEEP: a package is its "name==version" line and the indented hash lines below it
  awk -v keep="$2" -v re="$accelerator" '/^[a-z0-9]/ { hit = ($0 ~ re && $0 !~ /^nvidia-ml-py==/) } hit == keep' "$1"
}
{ echo "# Written by make lock (requirements/lock.sh). Do not edit."; split "$whole" 1; } >requirements/torch.txt
{ echo "# Written by make lock (requirements/lock.sh). Do not edit."; split "$whole" 0; } >requirements/visor.txt
