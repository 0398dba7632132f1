#!/usr/bin/env bash
# The main job once, from nothing to a set of images: writes a small random model, starts the daemon on a spool of its own,
# drops a folder of pictures and a manifest, waits, and says where the set is.
#
#   spool/examples/demo.sh FOLDER_OF_THE_PROGRAMS [FOLDER_FOR_THE_DEMO]
set -euo pipefail

programs=$(realpath "${1:?usage: demo.sh FOLDER_OF_THE_PROGRAMS [FOLDER_FOR_THE_DEMO]}")
here=$(dirname "$(realpath "$0")")
place=$(realpath -m "${2:-.build/demo}")

rm -rf "$place"
mkdir -p "$place/spool"
"$programs/dreamcache" random-model "$place/model" > "$place/model.log"
cat > "$place/dreamcached.yaml" <<YAML
spool:
  path: $place/spool
  settle_seconds: 2
  status_seconds: 0.5
models:
  random:
    checkpoint: model/random.safetensors
    adapter: model/random-adapter.safetensors
YAML
configuration=$place/dreamcached.yaml

"$programs/dreamcached" --config "$configuration" 2> "$place/daemon.log" &
daemon=$!
trap 'kill $daemon 2> /dev/null; wait $daemon || true' EXIT
until "$programs/dreamcache" status --config "$configuration" > /dev/null 2>&1; do
    kill -0 $daemon 2> /dev/null || { cat "$place/daemon.log"; exit 1; }
    sleep 0.1
done

echo "Dropping the pictures of a subject, and a manifest with its scenes:"
echo "  cp -r $here/lantern $place/spool/drop/references/"
cp -r "$here/lantern" "$place/spool/drop/references/"
cp "$here/scenes.json" "$place/spool/drop/jobs/"
set_folder=$("$programs/dreamcache" wait scenes.json --timeout 600 --config "$configuration")

echo
echo "The set:   $set_folder"
echo "Its grid:  $set_folder/grid.png"
echo "The cache: $place/spool/cache/lantern.dcache"
echo
echo "The model of this demonstration has random weights, so its pictures are noise; everything else is real."
