"""A net of somebody's own: NVIDIA's PilotNet (arXiv 1604.07316), 3x66x200, which answers in degrees."""

import torch
from torch import nn


class Pilot(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 24, 5, 2), nn.ELU(), nn.Conv2d(24, 36, 5, 2), nn.ELU(), nn.Conv2d(36, 48, 5, 2), nn.ELU()),
            *(nn.Conv2d(48, 64, 3), nn.ELU(), nn.Conv2d(64, 64, 3), nn.ELU(), nn.Flatten()),
            *(nn.Linear(64 * 18, 100), nn.ELU(), nn.Linear(100, 50), nn.ELU(), nn.Linear(50, 1)),
        )

    def forward(self, image):
        return self.layers(image / 127.5 - 1)


def build():
    torch.manual_seed(0)
    return Pilot()
