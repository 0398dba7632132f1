#!/usr/bin/env bash
# Makes the demonstration model from nothing: data, training, export, numbers. Says what it will cost before it trains.
#
#   Tools/demo-model/make.sh [gpu|cpu]
#
# Debian's packages are installed as root or with sudo; Python's into .build/demo-model/python. Training that was
# interrupted goes on where it was; the evaluation begins anew.
set -euo pipefail

preset=${1:-$(command -v nvidia-smi > /dev/null && echo gpu || echo cpu)}
here=$(dirname "$(realpath "$0")")
root=$(realpath "$here/../..")
work=$root/.build/demo-model/$preset
python_home=$root/.build/demo-model/python
sudo=$([ "$(id -u)" = 0 ] || echo sudo)

mkdir -p "$work"
$sudo apt-get install -y -q --no-install-recommends \
    openclipart-png fonts-noto-color-emoji unicode-data python3-venv python3-dev gcc
[ -x "$python_home/bin/python" ] || python3 -m venv "$python_home"
"$python_home/bin/pip" install -q torch==2.15.0 numpy pillow scipy safetensors
export PYTHONDONTWRITEBYTECODE=1
python=("$python_home/bin/python" -W ignore)

cd "$here"
"${python[@]}" train.py cost --preset "$preset" --work "$work"
for stage in autoencoder base judges; do
    "${python[@]}" train.py "$stage" --preset "$preset" --work "$work"
done
"${python[@]}" export.py --preset "$preset" --work "$work" --to "$here/model"
"${python[@]}" examples.py --work "$work" --root "$root"
make -C "$root" build
if [ ! -d "$work/data" ]; then
    rm -rf "$work/data.part"
    "${python[@]}" dataset.py --work "$work" --to "$work/data.part"
    mv "$work/data.part" "$work/data"
fi
"$root/.build/release/dreamcache" train --model "$here/model" --data "$work/data" --settings adapter.yaml \
    --run "$work/adapter" --out "$here/model/adapter.safetensors"
"${python[@]}" evaluate.py --work "$work" --programs "$root/.build/release" --model "$here/model" > "$work/numbers.json"
mv "$work/numbers.json" "$here/numbers.json"
