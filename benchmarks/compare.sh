#!/usr/bin/env bash
# All figures of RESULTS.md from "Approaches" to "Training that travels": about four hours on two cores.
# A run that was stopped goes on when the same command is given again.
#
#   benchmarks/compare.sh DATASET.csv STREAM.csv
set -euo pipefail

dataset=$1
stream=$2
here=$(dirname "$0")

tagger compare --data "$dataset"
tagger compare --data "$dataset" --few-labels \
  --approach linear --approach frozen --approach minilm --approach setfit
tagger compare --data "$dataset" --data "$here/../data/gold.csv" --seeds 1 \
  --approach rules --approach linear --approach frozen --approach minilm
python "$here/disputed.py" --data "$dataset"
python "$here/guarantee.py" --data "$dataset"
python "$here/shift.py" --data "$dataset"
for objective in mlm pairs; do
  python "$here/adapt_encoder.py" --input "$stream" --objective "$objective" \
    --out "benchmarks/out/adapted-$objective"
done
python "$here/travel.py" --data "$dataset" --stream "$stream" \
  --variant 'adapted mlm=model.encoder=benchmarks/out/adapted-mlm model.sha256=null' \
  --variant 'adapted pairs=model.encoder=benchmarks/out/adapted-pairs model.sha256=null'
