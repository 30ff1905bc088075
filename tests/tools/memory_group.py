"""A memory control group for one command: what it may use, page cache included, and what it used."""
import os
import subprocess

V1, V2 = "/sys/fs/cgroup/memory", "/sys/fs/cgroup"


class Group:
    """A memory control group below the machine's, of either version."""

    def __init__(self):
        self.v2 = os.path.exists(f"{V2}/cgroup.controllers")
        self.path = f"{V2 if self.v2 else V1}/flashinfer-test-{os.getpid()}"
        os.mkdir(self.path)

    def write(self, name, value):
        with open(f"{self.path}/{name}", "w", encoding="ascii") as file:
            file.write(str(value))

    def read(self, name):
        with open(f"{self.path}/{name}", encoding="ascii") as file:
            return file.read()

    def limit(self, limit_bytes):
        if self.v2:
            self.write("memory.swap.max", 0)
            self.write("memory.max", limit_bytes)
        else:
            self.write("memory.limit_in_bytes", limit_bytes)
            if os.path.exists(f"{self.path}/memory.memsw.limit_in_bytes"):
                self.write("memory.memsw.limit_in_bytes", limit_bytes)  # no swapping either

    def run(self, command, timeout=600):
        def enter():
            self.write("cgroup.procs", os.getpid())
        return subprocess.run(command, preexec_fn=enter, capture_output=True, text=True, check=False,
                              timeout=timeout)

    def peak(self):
        try:
            return int(self.read("memory.peak" if self.v2 else "memory.max_usage_in_bytes"))
        except OSError:
            return 0

    def close(self):
        os.rmdir(self.path)
