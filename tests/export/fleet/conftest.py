"""A search that is longer than a suite can afford: `--hypothesis-profile long`."""

from hypothesis import settings

settings.register_profile("long", max_examples=400)
