# Says what an interpreter has, as one JSON document on standard output.
# Arguments: the modules to import, each reported with its version or with why it does not import.
import ctypes
import importlib
import json
import os
import sys
import sysconfig

# Whatever imports print goes to standard error: standard output is for the answer alone.
answer_to = os.dup(1)
os.dup2(2, 1)

packages = {}
faults = {}
for module in sys.argv[1:]:
    try:
        packages[module] = str(importlib.import_module(module).__version__)
    except ModuleNotFoundError as fault:
        faults[module] = {"missing": fault.name == module, "reason": str(fault)}
    except Exception as fault:
        faults[module] = {"missing": False, "reason": "%s: %s" % (type(fault).__name__, fault)}


def nvidia_driver():
    """The driver's version by its own library, else by the kernel module's, else None."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        if library.nvmlInit_v2() == 0:
            text = ctypes.create_string_buffer(96)
            failed = library.nvmlSystemGetDriverVersion(text, ctypes.c_uint(len(text)))
            library.nvmlShutdown()
            if not failed:
                return text.value.decode("utf-8", "replace")
    except (OSError, AttributeError):
        pass
    try:
        with open("/sys/module/nvidia/version") as version:
            return version.read().strip()
    except OSError:
        return None


cuda = {"built_for": None, "available": False, "devices": [], "driver": nvidia_driver(), "fault": None}
torch_threads = None
if "torch" in packages:
    import torch

    torch_threads = torch.get_num_threads()
    cuda["built_for"] = torch.version.cuda
    try:
        cuda["available"] = torch.cuda.is_available()
        if cuda["available"]:
            for index in range(torch.cuda.device_count()):
                device = torch.cuda.get_device_properties(index)
                cuda["devices"].append({
                    "name": device.name,
                    "memory_bytes": device.total_memory,
                    "capability": [device.major, device.minor],
                })
    except Exception as fault:
        cuda["available"] = False
        cuda["devices"] = []
        cuda["fault"] = "%s: %s" % (type(fault).__name__, fault)

libraries = set()
with open("/proc/self/maps") as maps:
    for line in maps:
        columns = line.rstrip("\n").split(None, 5)
        if len(columns) == 6 and columns[5].startswith("/") and ".so" in os.path.basename(columns[5]):
            libraries.add(columns[5])

folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
folders.update(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
folders.update(sys.path)
answer = {
    "python_version": "%d.%d.%d" % sys.version_info[:3],
    "executable": sys.executable,
    "prefix": sys.prefix,
    "base_prefix": sys.base_prefix,
    "folders": sorted(folder for folder in folders if os.path.isdir(folder)),
    "search_path": [folder for folder in sys.path if os.path.isdir(folder)],
    "libraries": sorted(path for path in libraries if os.path.exists(path)),
    "packages": packages,
    "faults": faults,
    "cuda": cuda,
    "cpu_count": len(os.sched_getaffinity(0)),
    "torch_threads": torch_threads,
}
with os.fdopen(answer_to, "w") as out:
    json.dump(answer, out)
