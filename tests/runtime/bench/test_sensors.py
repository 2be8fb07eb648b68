"""Board sensors from fake /sys trees and from lines that real tegrastats printed (fixtures/tegrastats.txt)."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeflock.runtime.bench.sensors import (
    Sampler,
    Sensors,
    energy_between,
    nvml,
    nvml_reasons,
    parse_nvpmodel,
    parse_tegrastats,
    power_mode,
)

LINES = dict(
    line.split(" | ", 1)
    for line in (Path(__file__).parent / "fixtures/tegrastats.txt").read_text().splitlines()
    if not line.startswith("#")
)


@pytest.fixture
def board(tmp_path):
    """``board({path: content})`` writes files of /sys and /proc and gives the sensors that read them."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return Sensors(tmp_path)

    return write


@pytest.mark.parametrize(
    ("generation", "rails"),
    [
        ("nano-jp4", {"POM_5V_IN": 0.877, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.125}),
        ("xavier-nx-jp5", {"VDD_IN": 5.079, "VDD_CPU_GPU_CV": 0.696, "VDD_SOC": 1.104}),
        ("orin-nano-jp6", {"VDD_IN": 5.765, "VDD_CPU_GPU_CV": 1.548, "VDD_SOC": 1.497}),
        ("agx-xavier-jp4", {"GPU": 0.463, "CPU": 0.618, "SOC": 2.936, "CV": 0, "VDDRQ": 0.309, "SYS5V": 3.306}),
        (
            "agx-orin-jp6",
            {"VDD_GPU_SOC": 3.15, "VDD_CPU_CV": 14.312, "VIN_SYS_5V0": 4.968, "VDDQ_VDD2_1V8AO": 1.091},
        ),
        ("agx-orin-jp7", {}),  # without root tegrastats leaves the rails out
        ("thor-jp7", {"VDD_GPU": 3.561, "VDD_CPU_SOC_MSS": 7.91, "VIN_SYS_5V0": 7.62, "VIN": 26.686}),
        ("thor-jp7-readall", {"VDD_GPU": 3.561, "VIN": 26.686}),
    ],
)
def test_tegrastats_rails_are_the_momentary_watts(generation, rails):
    assert parse_tegrastats(LINES[generation])["power_w"] == rails


@pytest.mark.parametrize(
    ("generation", "name", "celsius"),
    [
        ("nano-jp4", "CPU", 27.5),
        ("tx2-jp4", "Tdiode", 41.25),
        ("agx-orin-jp6", "tj", 77.281),
        ("agx-orin-jp7", "cpu", 52.968),
        ("thor-jp7", "soc012", 38.812),
    ],
)
def test_tegrastats_temperatures(generation, name, celsius):
    assert parse_tegrastats(LINES[generation])["temperatures_c"][name] == celsius


def test_tegrastats_constants_and_units_without_power_are_no_temperatures():
    assert "PMIC" not in parse_tegrastats(LINES["nano-jp4"])["temperatures_c"]
    assert parse_tegrastats("CV0@-256C GPU@49.2C")["temperatures_c"] == {"GPU": 49.2}


@pytest.mark.parametrize(
    ("generation", "clocks"),
    [
        ("nano-jp4", {"cpu0": 102, "cpu3": 102, "gpu": 153}),
        ("xavier-nx-jp5", {"cpu3": 1907, "gpu": 510}),
        ("agx-orin-jp7", {"cpu1": 2201, "gpu": 1300}),
        ("thor-jp7-readall", {"gpu": 1000}),
        ("thor-jp7", {"cpu3": 1890}),
    ],
)
def test_tegrastats_clocks_of_cores_that_are_on(generation, clocks):
    found = parse_tegrastats(LINES[generation])["clocks_mhz"]
    assert clocks.items() <= found.items()
    assert "cpu4" not in found or "off" not in LINES[generation]


@pytest.mark.parametrize("line", ["", "tegrastats: command not found", "RAM 1/2MB (lfb", "\x00\xff"])
def test_what_is_no_tegrastats_line_says_nothing(line):
    assert not any(parse_tegrastats(line).values())


def test_ina3221_rails_are_volts_times_amperes_and_the_sum_channel_is_left_out(board):
    chip = "sys/class/hwmon/hwmon1"
    labels = {"in1_label": "VDD_IN", "in2_label": "VDD_CPU_GPU_CV", "in7_label": "sum of shunt voltages"}
    values = {"in1_input": 4984, "curr1_input": 1856, "in2_input": 4992, "curr2_input": 100, "curr4_input": 1956}
    # Channel 3 is not wired: it has a current and no label.
    files = {"name": "ina3221", **labels, **values, "in7_input": 9, "curr3_input": 0, "in3_input": 5000}
    found = board({f"{chip}/{name}": value for name, value in files.items()}).power_w()
    assert found == pytest.approx({"VDD_IN": 9.250304, "VDD_CPU_GPU_CV": 0.4992})


def test_ina238_power_is_in_microwatts(board):
    chip = "sys/class/hwmon/hwmon4"
    assert board({f"{chip}/name": "ina238", f"{chip}/power1_input": 26686000}).power_w() == {"ina238 power1": 26.686}


def test_rapl_counts_energy_and_starts_again(board):
    zone = "sys/class/powercap/intel-rapl:0"
    sensors = board({f"{zone}/name": "package-0", f"{zone}/energy_uj": 5_000_000, f"{zone}/max_energy_range_uj": 10**9})
    assert sensors.energy_j() == {"package-0 (intel-rapl:0)": (5.0, 1000.0)}
    assert energy_between(5.0, 7.5, 1000.0) == 2.5
    assert energy_between(999.0, 1.0, 1000.0) == 2.0


def test_clocks_of_cores_and_jetsons_gpu_and_the_governor(board):
    cpu = "sys/devices/system/cpu/cpu{}/cpufreq/{}"
    files = {cpu.format(n, "scaling_cur_freq"): 1479000 + n for n in (0, 10, 2)}
    files |= {cpu.format(n, "scaling_governor"): "schedutil" for n in (0, 10, 2)}
    sensors = board({**files, "sys/class/devfreq/17000000.gpu/cur_freq": 1300500000})
    assert list(sensors.clocks_mhz()) == ["cpu0", "cpu2", "cpu10", "17000000.gpu"]
    assert sensors.clocks_mhz()["17000000.gpu"] == 1300.5
    assert sensors.governors() == ["schedutil"]


def test_clocks_come_from_cpuinfo_where_there_is_no_cpufreq(board):
    assert board({"proc/cpuinfo": "cpu MHz\t\t: 2596.138\ncpu MHz\t: 2600"}).clocks_mhz() == {
        "cpu0": 2596.138,
        "cpu1": 2600,
    }


def test_a_thermal_zone_that_cannot_be_read_is_left_out(board):
    zone = "sys/class/thermal/thermal_zone{}/{}"
    files = {
        zone.format(0, "type"): "cpu-thermal",
        zone.format(0, "temp"): 63625,
        zone.format(2, "type"): "cv0-thermal",
    }
    files |= {"sys/class/hwmon/hwmon0/name": "k10temp", "sys/class/hwmon/hwmon0/temp1_input": 51250}
    files |= {"sys/class/hwmon/hwmon0/temp1_label": "Tctl"}
    assert board(files).temperatures_c() == {"cpu": 63.625, "k10temp Tctl": 51.25}


def test_throttling_of_x86_jetson_and_raspberry_pi(board):
    sensors = board(
        {
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": 3,
            "sys/class/hwmon/hwmon3/name": "soctherm_oc",
            "sys/class/hwmon/hwmon3/oc1_event_cnt": 0,
            "sys/class/hwmon/hwmon3/oc3_event_cnt": 179,
            "sys/class/hwmon/hwmon1/name": "ina3221",
            "sys/class/hwmon/hwmon1/curr1_crit_alarm": 1,
            "sys/class/hwmon/hwmon5/name": "nvme",
            "sys/class/hwmon/hwmon5/temp1_alarm": 1,
            "sys/class/thermal/cooling_device0/type": "gpu-throttle-alert",
            "sys/class/thermal/cooling_device0/cur_state": 1,
            "sys/class/thermal/cooling_device1/type": "Processor",
            "sys/class/thermal/cooling_device1/cur_state": 3,
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005",
        }
    )
    assert sensors.throttle_events() == {"cpu0 core_throttle": 3, "over-current oc1": 0, "over-current oc3": 179}
    assert {name for name, on in sensors.throttle_states().items() if on} == {
        "ina3221 curr1_crit alarm",
        "gpu-throttle-alert",
        "Raspberry Pi under-voltage",
        "Raspberry Pi throttled",
        "Raspberry Pi under-voltage has occurred",
        "Raspberry Pi throttling has occurred",
    }


def test_a_board_without_sensors_says_nothing(tmp_path):
    empty = Sensors(tmp_path)
    asked = (empty.clocks_mhz, empty.governors, empty.temperatures_c, empty.power_w, empty.energy_j)
    asked += (empty.throttle_events, empty.throttle_states)
    assert not any(ask() for ask in asked)


def test_power_mode_is_the_name_that_nvpmodel_prints(tmp_path, monkeypatch):
    assert parse_nvpmodel("NV Power Mode: MAXN_SUPER\n2\n") == "MAXN_SUPER"
    assert parse_nvpmodel("NVPM ERROR: no permission") is None
    tool = tmp_path / "nvpmodel"
    tool.write_text("#!/bin/sh\necho 'NV Power Mode: 15W'\necho 0\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert power_mode() == "15W"


def test_nvml_reasons_are_named():
    assert nvml_reasons(0x4 | 0x20) == ["power cap", "software thermal"]
    assert nvml_reasons(0x1) == []  # idle


def test_nvml_where_there_is_no_gpu_says_nothing():
    assert nvml() == {} or nvml()["power_w"]


def test_the_sampler_takes_the_rails_that_tegrastats_prints_meanwhile(tmp_path, monkeypatch):
    tool = tmp_path / "tegrastats"
    lines = "\n".join(f"echo '{LINES[name]}'" for name in ("nano-jp4", "nano-jp4"))
    said = tmp_path / "said"
    tool.write_text(f"#!/bin/sh\n{lines}\n: > {said}\nexec sleep 30\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(Sensors, "power_w", lambda self: {})
    with Sampler() as sampler:
        end = time.monotonic() + 30
        while not said.exists() and time.monotonic() < end:
            time.sleep(0.01)
    assert sampler.power_w["POM_5V_IN"] == [0.877, 0.877]
    assert max(sampler.temperatures_c["thermal"]) == 28.25


def test_the_sampling_program_prints_a_json_line_and_ends_with_its_parent():
    program = subprocess.Popen(
        [sys.executable, "-u", "-m", "edgeflock.runtime.bench.sensors"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert set(json.loads(program.stdout.readline())) == {"power_w", "temperatures_c"}
    finally:
        program.terminate()
        program.communicate()
