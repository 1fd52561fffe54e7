"""Run a command beside a real SLURM of one node, made for it on this machine: a cluster to try the Snakefile on.

    python tools/slurm.py snakemake --workflow-profile profiles/slurm --slurm-no-account --slurm-status-command squeue

It runs as root on Debian or Ubuntu, and installs their packages slurm-wlm and munge if they are missing. State and logs
lie in a temporary folder. While it runs, /etc/slurm/slurm.conf is a link to the settings there, because Snakemake's
jobs look nowhere else. A SLURM that is configured already is left alone; then this only says so and stops.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
ETC = Path("/etc/slurm/slurm.conf")
START = 60  # seconds after which a daemon that does not answer is given up

CONFIGURATION = """
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
# no control groups, accounting database or mail: a container has none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000
PartitionName=all Nodes={host} Default=YES State=UP
"""


class NoSlurm(Exception):  # noqa: N818
    """There can be no SLURM here; the message says why, and what to do."""


def install() -> None:
    """Install SLURM where it is missing.

    Raises:
        NoSlurm: not root, no apt-get, or it failed.
    """
    if os.geteuid() != 0:
        raise NoSlurm("SLURM's daemons need root")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise NoSlurm(f"{', '.join(missing)} are missing, and there is no apt-get: install slurm-wlm and munge")
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "slurm-wlm", "munge"]
    done = subprocess.run(
        command, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise NoSlurm(f"`{' '.join(command)}` failed: {done.stderr.strip()[-500:]}. Try `apt-get update` first.")


def _free_ports(number: int) -> list[int]:
    with ExitStack() as open_together:
        sockets = [open_together.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _daemon(log: Path, *command: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running() -> Iterator[None]:
    """Run the daemons.

    Raises:
        NoSlurm: a SLURM is configured on this machine; or a daemon did not start, then with the ends of their logs.
    """
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as stack:
        folder, host = Path(name), socket.gethostname().partition(".")[0]
        folder.chmod(0o755)  # munge's socket is for everyone
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        configuration = folder / "slurm.conf"
        configuration.write_text(CONFIGURATION.format(host=host, folder=folder, ports=_free_ports(2)))
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        try:
            ETC.symlink_to(configuration)
        except FileExistsError as error:
            raise NoSlurm(
                f"{ETC} is there already. Where it is a link into {tempfile.gettempdir()}, it was left by a trial that "
                "was killed: remove it, and end that trial's slurmd, slurmctld and munged"
            ) from error
        stack.callback(ETC.unlink)

        def start(*command: str) -> None:
            stack.enter_context(_daemon(folder / f"{command[0]}.log", *command))

        files = [f"--{what}-file={folder}/munge.{what}" for what in ("key", "pid", "seed", "log")]
        start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
        start("slurmctld", "-D", "-f", str(configuration))
        start("slurmd", "-D", "-f", str(configuration), "-N", host)
        end = time.monotonic() + START
        question = ["sinfo", "--noheader", "--format=%T"]
        while subprocess.run(question, capture_output=True, text=True).stdout.strip() != "idle":
            if time.monotonic() > end:
                logs = "\n".join(path.read_text()[-1000:] for path in sorted(folder.glob("*.log")))
                raise NoSlurm(f"SLURM did not start within {START} s:\n{logs}")
            time.sleep(0.2)
        yield


def main(command: list[str]) -> int:
    """Run a command beside a SLURM and return its exit status."""
    try:
        install()
        with running():
            return subprocess.run(command).returncode
    except NoSlurm as error:
        print(f"slurm: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
