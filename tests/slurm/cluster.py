"""Slurm on one machine: a controller and a node that listen on the loopback alone, started as root."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.sock
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
SchedulerParameters=sched_interval=2,bf_interval=5
JobRequeue=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=32000 Gres=gpu:2
PartitionName=main Nodes={host} Default=YES
PartitionName=urgent Nodes={host} PriorityTier=2
"""
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.sock
"""
SLURMDBD_CONF = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
CommunicationParameters=NoInAddrAny
SlurmUser=root
AuthInfo=socket={folder}/munge.sock
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database_port}
StorageUser=slurm
StoragePass={password}
"""
DATABASE = """\
CREATE USER slurm@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';
"""
SRUN = """#!/bin/sh
# The executor's job step drops the variable before it calls srun.
export SLURM_CONF={folder}/slurm.conf
exec {srun} "$@"
"""


def lacking() -> str:
    """Why no Slurm can be started here; nothing if it can."""
    if os.geteuid() != 0:
        return "a controller of its own is started as root"
    needed = ("munged", "slurmctld", "slurmd", "srun", "squeue", "slurmdbd", "mariadbd", "my_print_defaults")
    missing = [name for name in needed if not shutil.which(name)]
    return f"{', '.join(missing)} not installed: make test-cluster" if missing else ""


class Cluster:
    """A controller and a node, with Slurm's accounting database or without it.

    Attributes:
        environment: in which Slurm's commands speak to it.
    """

    def __init__(self, folder: Path, accounting: bool) -> None:
        self.folder, self.accounting = folder, accounting
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        host = socket.gethostname().split(".")[0]
        self.ports = {name: _free_port() for name in ("port", "node_port", "dbd_port", "database_port")}
        conf = CONF + ACCOUNTING if accounting else CONF
        (folder / "slurm.conf").write_text(conf.format(host=host, folder=folder, **self.ports))
        for k in range(2):
            subprocess.run(["mknod", folder / f"gpu{k}", "c", "1", "3"], check=True)
        (folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={folder}/gpu[0-1]\n")
        srun = folder / "bin/srun"
        srun.write_text(SRUN.format(folder=folder, srun=shutil.which("srun")))
        srun.chmod(0o755)
        path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)

    def start(self) -> None:
        """Start everything, one after the other."""
        folder = self.folder
        places = {"socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        munge = ["munged", "--force", "--foreground", f"--key-file={folder}/munge.key"]
        munge += [f"--{option}={folder}/munge.{ending}" for option, ending in places.items()]
        self.processes["munged"] = self._start(munge)
        _until(lambda: (folder / "munge.sock").exists(), "munged")
        if self.accounting:
            self._start_accounting()
        self.start_controller()
        self.processes["slurmd"] = self._start(["slurmd", "-D"])
        _until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%t"), "slurmd")

    def start_controller(self) -> None:
        """Start the controller, again after `kill_controller`."""
        self.processes["slurmctld"] = self._start(["slurmctld", "-D"])
        _until(lambda: "main" in self.ask("sinfo", "-h", "-o", "%P"), "slurmctld")

    def kill_controller(self) -> None:
        """Kill the controller; what the queue holds is in its state."""
        self.processes["slurmctld"].kill()
        self.processes["slurmctld"].wait()

    def ask(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout

    def stop(self) -> None:
        """End everything that was started."""
        for process in reversed(self.processes.values()):
            process.terminate()
            process.wait()

    def _start_accounting(self) -> None:
        data, password = self.folder / "database", secrets.token_hex(16)
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db"],
            check=True,
            capture_output=True,
        )
        users, conf = self.folder / "users.sql", self.folder / "slurmdbd.conf"
        users.write_text(DATABASE.format(password=password))
        conf.touch(0o600)  # slurmdbd refuses one that others can read.
        conf.write_text(SLURMDBD_CONF.format(folder=self.folder, password=password, **self.ports))
        places = {"datadir": data, "init-file": users, "socket": data / "sock", "pid-file": data / "pid"}
        mariadb = ["mariadbd", "--no-defaults", "--user=root", "--bind-address=127.0.0.1"]
        mariadb += [f"--port={self.ports['database_port']}"]
        mariadb += [f"--{option}={place}" for option, place in places.items()]
        self.processes["mariadbd"] = self._start(mariadb)
        _until(lambda: (data / "sock").exists(), "mariadbd")
        self.processes["slurmdbd"] = self._start(["slurmdbd", "-D"])
        _until(lambda: "Cluster" in self.ask("sacctmgr", "show", "cluster"), "slurmdbd")

    def _start(self, command: list[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
    return port


def _until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(150):
        if holds():
            return
        time.sleep(0.2)
    raise TimeoutError(f"{what} does not answer")
