"""Takes from this process what only Linux has: fcntl, os.fork, SIGUSR1, /proc and the like. See
tests/portable_platform.py.
"""

import builtins
import multiprocessing
import os
import signal
import sys

import psutil  # noqa: F401 - before os loses what it takes from there

MODULES = ("fcntl", "termios", "resource", "pwd", "grp", "pty")
OS = ("fork", "sched_getaffinity", "getloadavg", "killpg", "waitid")
SIGNALS = ("SIGHUP", "SIGUSR1", "SIGUSR2")
STANDARD = ("pathlib", "io", "os", "codecs", "shutil", "tempfile")
_import = builtins.__import__


def without(name, globals=None, locals=None, fromlist=(), level=0):
    if name in MODULES and str((globals or {}).get("__name__")).startswith("nas_attn"):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)
    return _import(name, globals, locals, fromlist, level)


def no_proc(event, arguments):
    if event not in ("open", "os.listdir", "os.scandir") or not str(arguments[0]).startswith(
        ("/proc", "/sys/", "/dev/fd")
    ):
        return
    frame = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in STANDARD:
        frame = frame.f_back
    if frame is not None and str(frame.f_globals.get("__name__")).startswith("nas_attn"):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


multiprocessing.set_start_method("spawn", force=True)  # as on Windows and macOS
builtins.__import__ = without
sys.addaudithook(no_proc)
for module, names in ((os, OS), (signal, SIGNALS)):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
