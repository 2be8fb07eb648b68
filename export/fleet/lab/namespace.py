"""Sets up the one device of a fresh network namespace, hands its other end to the relay, and becomes the command.

    python -m edgeflock.export.fleet.lab.namespace SOCKET ADDRESS CONTROL COMMAND...

CONTROL is TCP's congestion control, "" for the machine's own.

Started by `links.Relay`, within `unshare --net`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

DEVICE = "robot0"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Let the kernel end this process when the one that started it ends, however that comes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Do what the module says."""
    number, own, control, *command = sys.argv[1:]
    die_with_parent()
    with socket.socket(fileno=int(number)) as relay:
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
        for words in (
            "link set lo up",
            f"address add {own}/24 dev {DEVICE}",
            f"link set {DEVICE} mtu 1500 txqueuelen 10000 multicast on up",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        if control:
            Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(control)
        socket.send_fds(relay, [b"up"], [device])
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
