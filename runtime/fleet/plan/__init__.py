"""Who exchanges with whom and when: networks, overlays, tours, schedules."""
