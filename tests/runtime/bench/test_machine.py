"""What a benchmark says of the machine that it ran on."""

from edgeflock.runtime.bench import machine


class Throttled:
    def throttle_events(self):
        return {"cpu0 core_throttle": 7, "cpu1 core_throttle": 2}

    def throttle_states(self):
        return {"gpu-throttle-alert": 1, "ina3221 curr1_crit alarm": 0}


def test_only_what_throttled_since_the_start_is_told_and_what_still_does(monkeypatch):
    monkeypatch.setattr(machine, "Sensors", Throttled)
    monkeypatch.setattr(machine, "nvml", lambda: {"throttling": {"gpu sw power cap": 1}})
    told = machine.throttling_since({"cpu0 core_throttle": 4, "cpu1 core_throttle": 2})
    assert told == {"cpu0 core_throttle": 3, "gpu-throttle-alert": 1, "gpu sw power cap": 1}
