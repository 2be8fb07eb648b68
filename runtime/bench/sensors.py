"""What the board does meanwhile: clocks, governor, temperatures, throttling, power. Standard library only.

Everything comes from /sys and /proc, from `tegrastats` where there is one, and from NVML for a desktop GPU where
nvidia-ml-py is installed. What cannot be read is left out, never guessed. Sources:

- cpufreq, thermal zones, hwmon (INA3221: mV x mA; INA238 and others: power*_input in uW), powercap (RAPL, uJ):
  Documentation/hwmon/{ina3221,ina238}.rst, Documentation/power/powercap of the Linux kernel;
- Jetson: oc*_event_cnt of the driver soctherm_oc, cooling devices *-throttle-alert, `nvpmodel -q`: NVIDIA's Jetson
  Linux Developer Guide, Platform Power and Performance;
- Raspberry Pi: the firmware's get_throttled, bits as in its documentation of vcgencmd.

As a program (``python -m edgeflock.runtime.bench.sensors``) it prints one JSON line of rails and temperatures every
half second: sampling in a process of its own takes nothing from the timed loop but its share of the cores.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PERIOD_S = 0.5
_PI_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage has occurred",
    17: "frequency capping has occurred",
    18: "throttling has occurred",
    19: "soft temperature limit has occurred",
}


class Sensors:
    """The sensors of one machine.

    Parameters
    ----------
    root : Path
        Where /sys and /proc stand; another folder in tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def clocks_mhz(self) -> dict[str, float]:
        """Clock of each core, and of a Jetson's GPU, now, MHz."""
        found = {
            path.parts[-3]: int(text) / 1000
            for path in self._glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
            if (text := _read(path)).isdigit()
        }
        if not found:  # virtual machines have no cpufreq; what /proc/cpuinfo says there is often the nominal clock
            lines = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _read(self.root / "proc/cpuinfo"), re.MULTILINE)
            found = {f"cpu{n}": float(mhz) for n, mhz in enumerate(lines)}
        clocks = dict(sorted(found.items(), key=lambda item: int(item[0][3:])))
        for gpu in self._glob("sys/class/devfreq/*gpu*"):  # Jetson: 57000000.gpu, 17000000.gpu, gpu-gpc-0
            if (hz := _number(gpu / "cur_freq")) is not None:
                clocks[gpu.name] = hz / 1e6
        return clocks

    def governors(self) -> list[str]:
        """Names of the cpufreq governors in use."""
        return sorted(
            {_read(p) for p in self._glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")} - {""}
        )

    def temperatures_c(self) -> dict[str, float]:
        """Thermal zones and hwmon temperatures, °C."""
        found = {}
        for zone in self._glob("sys/class/thermal/thermal_zone*"):
            if (value := _number(zone / "temp")) is not None:  # a zone of a unit without power cannot be read
                found[_read(zone / "type").removesuffix("-thermal") or zone.name] = value / 1000
        for file in self._glob("sys/class/hwmon/hwmon*/temp*_input"):
            label = _read(file.with_name(file.name.replace("_input", "_label"))) or file.name.removesuffix("_input")
            if (value := _number(file)) is not None:
                found[f"{_read(file.parent / 'name')} {label}"] = value / 1000
        return found

    def power_w(self) -> dict[str, float]:
        """Power of each rail now, W."""
        found = {}
        for chip in self._glob("sys/class/hwmon/hwmon*"):
            name = _read(chip / "name")
            for current in sorted(chip.glob("curr[0-9]_input")):
                n = current.name[4]
                label = _read(chip / f"in{n}_label")  # a channel without one is not wired, or is a sum
                volts, amperes = _number(chip / f"in{n}_input"), _number(current)
                if label and "sum" not in label.lower() and volts is not None and amperes is not None:
                    found[label] = volts * amperes / 1e6
            for power in sorted(chip.glob("power[0-9]_input")):
                if (value := _number(power)) is not None:
                    found[_read(chip / power.name.replace("_input", "_label")) or f"{name} {power.name[:6]}"] = (
                        value / 1e6
                    )
        return found

    def energy_j(self) -> dict[str, tuple[float, float]]:
        """RAPL energy counters and where they start again at 0, J; readable by root only on most machines."""
        found = {}
        for zone in self._glob("sys/class/powercap/*-rapl:*"):
            value, top = _number(zone / "energy_uj"), _number(zone / "max_energy_range_uj")
            if value is not None and top is not None:
                found[f"{_read(zone / 'name')} ({zone.name})"] = (value / 1e6, top / 1e6)
        return found

    def throttle_events(self) -> dict[str, int]:
        """Throttling events since the machine started, by counter."""
        found = {}
        for file in self._glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count"):
            found[f"{file.parts[-3]} {file.name.removesuffix('_count')}"] = _number(file)
        for file in self._glob("sys/class/hwmon/hwmon*/oc[0-9]_event_cnt"):
            found[f"over-current {file.name[:3]}"] = _number(file)
        return {name: int(value) for name, value in found.items() if value is not None}

    def throttle_states(self) -> dict[str, int]:
        """Alarms and throttles that can be on; 0 is off."""
        found = {}
        for file in self._glob("sys/class/hwmon/hwmon*/*_alarm"):
            chip = _read(file.parent / "name")
            if chip in ("ina3221", "ina238", "rpi_volt"):
                found[f"{chip} {file.name.removesuffix('_alarm')} alarm"] = _number(file)
        for device in self._glob("sys/class/thermal/cooling_device*"):
            if (kind := _read(device / "type")).endswith("-throttle-alert"):
                found[kind] = _number(device / "cur_state")
        for file in self._glob("sys/devices/platform/soc/soc:firmware/get_throttled"):
            bits = int(_read(file) or "0", 16)
            found |= {f"Raspberry Pi {name}": bits >> bit & 1 for bit, name in _PI_BITS.items()}
        return {name: int(value) for name, value in found.items() if value is not None}

    def _glob(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern))


def power_mode() -> str | None:
    """Jetson's power mode by `nvpmodel -q`; None elsewhere."""
    if shutil.which("nvpmodel") is None:
        return None
    try:
        said = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_nvpmodel(said)


def parse_nvpmodel(said: str) -> str | None:
    """Name of the mode in what `nvpmodel -q` prints."""
    mode = re.search(r"^NV Power Mode:\s*(\S+)", said, re.MULTILINE)
    return mode[1] if mode else None


def parse_tegrastats(line: str) -> dict[str, dict[str, float]]:
    """Rails (W), temperatures (°C) and clocks (MHz) in one line of tegrastats, of JetPack 4 to 7.

    A rail is `NAME now/average` in mW; since JetPack 5 with the unit, and with one to three values. AGX Xavier's have
    plain names such as `CPU`.
    Temperatures are `name@41.5C`, on JetPack 7 also `name@41.5C/41.5C`; -256 is a sensor without power. `PMIC@100C` and
    `PMIC@50C` are constants of the firmware and are left out.
    """
    rails = {
        name: int(now) / 1000
        for name, now in re.findall(r"(?<!\S)([A-Z][A-Z0-9_]*) (\d+)(?:mW(?:/\d+mW)*|/\d+)(?=\s|$)", line)
    }
    temperatures = {
        name: float(value)
        for name, value in re.findall(r"(?<!\S)([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C(?=[\s/]|$)", line)
        if float(value) > -100 and name != "PMIC"
    }
    clocks: dict[str, float] = {}
    if cores := re.search(r"CPU \[([^\]]*)\]", line):
        clocks = {f"cpu{n}": float(c.split("@")[1]) for n, c in enumerate(cores[1].split(",")) if "@" in c}
    # GPU: "36%@140", "0%@[510]", "0%@[1300,1300]" or, on Thor, "@[1000,1000,1000]".
    if gpu := re.search(r"GR3D_FREQ (?:\d+%)?@\[?(\d+)", line):
        clocks["gpu"] = float(gpu[1])
    return {"power_w": rails, "temperatures_c": temperatures, "clocks_mhz": clocks}


def nvml() -> dict[str, dict[str, float]]:
    """Power, temperature and clock of the first NVIDIA GPU, and why it is slowed down; empty where NVML is not."""
    try:
        import pynvml
    except ImportError:
        return {}
    found: dict[str, dict[str, float]] = {"power_w": {}, "temperatures_c": {}, "clocks_mhz": {}, "throttling": {}}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        reads = (
            ("power_w", lambda: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
            ("temperatures_c", lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU)),
            ("clocks_mhz", lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)),
        )
        for kind, read in reads:
            try:
                found[kind]["gpu"] = float(read())
            except pynvml.NVMLError:  # Jetson's NVML does not know all of them
                continue
        try:
            # Idle and clocks that the user set are no throttling.
            quiet = pynvml.nvmlClocksThrottleReasonGpuIdle | pynvml.nvmlClocksThrottleReasonApplicationsClocksSetting
            reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu) & ~quiet
            found["throttling"] = {f"gpu {name}": 1 for name in nvml_reasons(reasons)}
        except pynvml.NVMLError:
            pass
    except pynvml.NVMLError:
        return {}
    finally:
        pynvml.nvmlShutdown()
    return found


def nvml_reasons(bits: int) -> list[str]:
    """Names of NVML's clock event reasons (nvml.h)."""
    names = {2: "power cap", 3: "hardware slowdown", 4: "sync boost", 5: "software thermal", 6: "hardware thermal"}
    names |= {7: "power brake"}
    return [name for bit, name in names.items() if bits >> bit & 1]


class Sampler:
    """Samples rails and temperatures while a block runs: from /sys and NVML, or by tegrastats where only it sees rails.

    JetPack 4 has no hwmon for its INA3221. Where nobody sees a rail no process is started and `power_w` stays empty.
    """

    def __init__(self) -> None:
        self.power_w: dict[str, list[float]] = {}
        self.temperatures_c: dict[str, list[float]] = {}
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Sampler:
        self._energy, self._start = Sensors().energy_j(), time.monotonic()
        if Sensors().power_w() or nvml().get("power_w"):
            command = [sys.executable, "-u", "-m", "edgeflock.runtime.bench.sensors"]
        elif tegrastats := shutil.which("tegrastats"):
            command = [tegrastats, "--interval", str(round(1000 * PERIOD_S))]
        else:
            return self
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._start
        if self._process is not None:
            self._process.terminate()
            said, _ = self._process.communicate()
            for line in said.splitlines():
                self.add(_sample(line))
        after = Sensors().energy_j()
        for name, (before, top) in self._energy.items():
            if name in after:
                self.power_w[name] = [energy_between(before, after[name][0], top) / seconds]

    def add(self, sample: dict[str, dict[str, float]]) -> None:
        """Take in one sample."""
        for kind, into in (("power_w", self.power_w), ("temperatures_c", self.temperatures_c)):
            for name, value in sample.get(kind, {}).items():
                into.setdefault(name, []).append(value)


def _sample(line: str) -> dict[str, dict[str, float]]:
    """A line of either program; the last one may be cut off."""
    if not line.startswith("{"):
        return parse_tegrastats(line)
    return json.loads(line) if line.endswith("}}") else {}


def energy_between(before: float, after: float, top: float) -> float:
    """Energy from one reading of a counter to a later one, J; the counter starts again at 0 after `top`."""
    return after - before if after >= before else after - before + top


def sample() -> dict[str, dict[str, float]]:
    """Rails and temperatures now."""
    here, gpu = Sensors(), nvml()
    return {
        "power_w": here.power_w() | gpu.get("power_w", {}),
        "temperatures_c": here.temperatures_c() | gpu.get("temperatures_c", {}),
    }


def samples(period_s: float = PERIOD_S) -> Iterator[dict[str, dict[str, float]]]:
    """A sample every `period_s`, until the process that started this one is gone."""
    parent = os.getppid()
    while os.getppid() == parent:
        yield sample()
        time.sleep(period_s)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_read(path))
    except ValueError:
        return None


if __name__ == "__main__":
    for found in samples():
        print(json.dumps(found), flush=True)
