# A phrase book: each recipe is one of the commands the README explains.

# list the recipes
default:
    @just --list

# Python side, engines, model, vocabulary
setup:
    scripts/setup

# set up, measure the quick profile, write the report
quick:
    scripts/assay quick

# measure the full profile into results/record
full:
    scripts/assay full

# criterion over kernels, tokenizer, model and harness
bench *ARGS:
    cargo bench {{ARGS}}

# every chart, table and report from the record again, without measuring
compare *ARGS:
    scripts/assay compare {{ARGS}}

# every cell once, every answer checked
verify *ARGS:
    scripts/assay verify {{ARGS}}

# is this tree slower than BASE?
gate BASE="HEAD~1":
    scripts/assay gate {{BASE}}

# what this machine can do and what is missing
doctor:
    scripts/assay doctor

# the instrument, measured
selftest:
    scripts/assay selftest

# everything that CI runs
test:
    scripts/test
