"""Train the runs of a profile of config/ that have no valid record: each one papermill job, here or on a cluster.

    snakemake                                          the quick profile, one run a core
    snakemake --config profile=paper                   the runs of the published results
    snakemake --workflow-profile profiles/slurm        the same on a SLURM cluster

A missing or invalid record schedules its run, and nothing else does. So no run has files as inputs, and what is to be
done is asked of hwr_utils.study and not of the dates of files. A job that is killed goes on from its last whole epoch
when this is run again.
"""

import shlex
import shutil
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from hwr_utils import study
from hwr_utils.errors import InputError


workdir: workflow.basedir


if set(config) - {"profile", "gpu"}:
    raise WorkflowError(f"--config {' '.join(config)}: expected profile=NAME, gpu=true or gpu=false.")

# the processes that run single jobs read this file too: they are told what to do, and neither ask nor tell
ASKS = workflow.is_main_process
NAME = config.get("profile", "quick")
# whether the machines that train have a GPU: on a cluster this one may have none
GPU = config.get("gpu", shutil.which("nvidia-smi") is not None)
try:
    profile = study.read_profile(NAME)
    jobs = {job.name: job for job in profile.jobs}
    todo, damaged = study.unrecorded(NAME) if ASKS else ([], [])
    undrawn = study.undrawn(NAME) if ASKS else []
    todo, reasons = (todo, []) if profile.data else study.runnable(todo, GPU)
except InputError as error:
    raise WorkflowError(str(error))
for reason in reasons:
    print(reason, file=sys.stderr)
todo = [job.name for job in todo]

# Snakemake wants a file from each job. These mean nothing beyond that: what is to be done has none.
RUNS, DATA = (Path("_build") / "snakemake" / NAME / kind for kind in ("runs", "data"))
for done in (*(RUNS / name for name in todo), *(DATA / name for name in undrawn)):
    Path(workflow.basedir, done).unlink(missing_ok=True)


onstart:
    for record in damaged:
        kept = study.set_aside(record)
        print(f"{record} is not valid. It is kept as {kept.name}, and its run is made again.", file=sys.stderr)


localrules: all, draw


rule all:
    # a rule without any input would always have something to do
    input: [RUNS / name for name in todo] or workflow.snakefile


rule draw:
    output: touch(DATA / "{dataset}")
    run: study.draw(NAME, wildcards.dataset)


rule run:
    input: lambda wildcards: [DATA / name for name in undrawn if name == jobs[wildcards.name].config.dataset]
    output: touch(RUNS / "{name}")
    params:
        python=shlex.quote(sys.executable),
        arguments=lambda wildcards: shlex.join(profile.notebook_arguments(jobs[wildcards.name])),
    threads: 1
    resources:
        gpu=1 if GPU else 0,
    # as many threads as it was given cores, or two jobs would fight for two cores
    shell: "HWR_TRAIN=allow OMP_NUM_THREADS={threads} {params.python} -m hwr_utils {params.arguments}"
