"""Lane images with their steering angle, and a FADNet that has really learnt to follow them."""

from __future__ import annotations

import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def drawn_alike():
    """What a test draws without a seed of its own is the same in every run."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def lanes():
    """``lanes(count, seed)`` draws a bending lane as uint8 (count, 240, 320) and its angle in rad, left positive."""

    def draw(count, seed):
        rng = np.random.default_rng(seed)
        row, column = np.mgrid[0:240, 0:320].astype(np.float32)
        near = np.clip((row - 70) / 170, 0.02, 1)  # 1 at the lower edge of the image
        frames, angles = np.empty((count, 240, 320), np.uint8), np.empty(count, np.float32)
        for i in range(count):
            bend, offset = rng.uniform(-1, 1), rng.uniform(-0.5, 0.5)
            centre = 160 + offset * 120 * near - bend * 130 * (1 - near) ** 2
            image = rng.uniform(60, 150) + rng.normal(0, 8, row.shape)
            for side in (-1, 1):
                image += rng.uniform(50, 90) * np.exp(-(((column - centre - side * 90 * near) / (3 + 6 * near)) ** 2))
            frames[i], angles[i] = np.clip(image, 0, 255), 0.3 * bend - 0.25 * offset
        return frames, angles

    return draw


@pytest.fixture(scope="session")
def crops(lanes):
    """``crops(count, seed)``: the same, cut to what the net takes, (count, 200, 200)."""
    from edgeflock.runtime.prepare.frame import crop_200

    def draw(count, seed):
        frames, angles = lanes(count, seed)
        return np.stack([crop_200(frame) for frame in frames]), angles

    return draw


@pytest.fixture(scope="session")
def trained(crops, once):
    """FADNet after a few steps of Adam: far better than a constant, far from perfect."""
    import torch

    from edgeflock.export.nets import NETS

    torch.set_num_threads(1)
    net = NETS["fadnet"]()
    weights = once("trained", lambda folder: torch.save(_learn(crops), folder / "fadnet.pt")) / "fadnet.pt"
    net.load_state_dict(torch.load(weights, weights_only=True))
    return net.eval()


def _learn(crops):
    import torch
    from torch.nn import functional as F

    from edgeflock.export.nets import NETS

    torch.manual_seed(0)
    frames, angles = crops(320, seed=1)
    images, labels = torch.from_numpy(frames[:, None]).float(), torch.from_numpy(angles)[:, None]
    net = NETS["fadnet"]()
    steps = 40
    optimiser = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for step in range(steps):
        batch = torch.arange(step * 16, step * 16 + 16) % len(images)
        loss = F.mse_loss(net(images[batch]), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return net.state_dict()
