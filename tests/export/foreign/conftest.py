"""Nets and frames of somebody else, made on the spot."""

import sys
from textwrap import dedent

import cv2
import numpy as np
import pytest

from edgeflock.runtime.bundle.bundle import generate_key

MODULE = """
    import torch
    from torch import nn

    class Signs(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3)
            self.head = nn.Linear(8, 4)

        def forward(self, image):
            seen = torch.relu(self.second(torch.relu(self.first(image))))
            return self.head(seen.mean((2, 3)) * 8)

    class Pilot(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Conv2d(3, 8, 5, 2), nn.Linear(8, 1)

        def forward(self, image):
            return self.head(torch.relu(self.first(image / 127.5 - 1)).amax((2, 3)))

    def pilot():
        torch.manual_seed(0)
        return Pilot()

    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Conv2d(3, 8, 5, 2), nn.Linear(9, 3)

        def forward(self, image, speed):
            seen = torch.relu(self.first(image / 127.5 - 1)).amax((2, 3))
            return {"controls": self.head(torch.cat([seen, speed], 1))}

    def conditional():
        torch.manual_seed(0)
        return Conditional()

    class Faces(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Conv2d(1, 8, 5, 2), nn.Linear(8, 3)

        def forward(self, face):
            return self.head(torch.relu(self.first(face / 64 - 2)).amax((2, 3))) * 4

    def faces():
        torch.manual_seed(0)
        return Faces()

    def build():
        torch.manual_seed(0)
        return Signs()

    def needs_more(size):
        return Signs()

    def score(answers, labels):
        return float((answers["output"].argmax(1) == labels["label"]).mean())
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A module with a torch net, pictures of two classes for calibration and others for validation, and a key."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("own")
    (folder / "somebodys_net.py").write_text(dedent(MODULE))
    for split, seed in (("train", 1), ("val", 2)):
        rng = np.random.default_rng(seed)
        for name in ("go", "stop"):
            (folder / split / name).mkdir(parents=True)
            for i in range(8):
                coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
                picture = cv2.resize(coarse, (40, 32), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(folder / split / name / f"{i}.png"), picture)
    generate_key(folder / "fleet.pem", "test")
    return folder


@pytest.fixture
def in_workshop(workshop, monkeypatch):
    """The same, as the folder that a user stands in."""
    monkeypatch.chdir(workshop)
    monkeypatch.syspath_prepend(workshop)
    monkeypatch.delitem(sys.modules, "somebodys_net", raising=False)
    return workshop
