#!/usr/bin/env bash
# Resolves pyproject.toml once and writes two lock files that never overlap, hashes in, index addresses out:
#   torch.txt  torch, torchvision and the accelerator libraries that PyPI's Linux wheels depend on
#   visor.txt  everything else
# and for each image one, of what its .in list and the two above say, without torch.txt's part.
# Two files, so that TORCH_INDEX can replace the first one whole (CPU wheels have other names and hashes).
# Needs uv on the PATH; `make lock` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
accelerator='^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)=='
whole=$(mktemp)
trap 'rm -f "$whole"' EXIT
cat requirements/torch.txt requirements/visor.txt >"$whole" # what is locked stays, unless the arguments say --upgrade
compile=(uv pip compile pyproject.toml --extra all --extra dev --universal --python-version 3.11 --quiet
  --generate-hashes --no-emit-index-url --no-annotate --no-header)
"${compile[@]}" "$@" --output-file "$whole" >/dev/null

split() { # split FILE KEEP: a package is its "name==version" line and the indented hash lines below it
  awk -v keep="$2" -v re="$accelerator" '/^[a-z0-9]/ { hit = ($0 ~ re && $0 !~ /^nvidia-ml-py==/) } hit == keep' "$1"
}
header="# Written by make lock (requirements/lock.sh). Do not edit."
{ echo "$header"; split "$whole" 1; } >requirements/torch.txt
{ echo "$header"; split "$whole" 0; } >requirements/visor.txt

# Images are Linux with Debian 12's C library; what differs between its processors is in torch.txt.
compile_image=(uv pip compile --constraint requirements/torch.txt --constraint requirements/visor.txt
  --python-version 3.11 --python-platform x86_64-manylinux_2_36 --quiet
  --generate-hashes --no-emit-index-url --no-annotate --no-header)
for name in console loadtest serving serving-torch training transformer; do
  "${compile_image[@]}" "requirements/$name.in" >"$whole"
  { echo "$header"; split "$whole" 0; } >"requirements/$name.txt"
done

# The tests' own image, without dependencies: its list is whole.
image=tests/e2e/images/storage-initializer
{ echo "$header"; "${compile_image[@]}" --no-deps "$image/requirements.in"; } >"$image/requirements.txt"
