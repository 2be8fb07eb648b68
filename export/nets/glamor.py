"""GLAMOR-Net (Le et al. 2021, arXiv 2111.04129): the face decides which part of the scene to look at.

Source: Le et al. 2021 (arXiv 2111.04129) and its Keras code `minhnhatvt/glamor-net`. The literature reports 2.23 M
and 22.90 M parameters; the released code, and this file, have 2,158,602 and 22,748,298.

The parts that the paper takes away stand beside it: `attention` and `fusion` of `Glamor`.

Modules stand in the order in which the authors' code creates them, which is how `keras.py` finds their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgeflock.export.nets.resnet import global_pool, resnet18

LABELS = ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
FACE, CONTEXT = 96, 112  # sides of the two images
FILTERS = (32, 64, 128, 256, 256)
HIDDEN = 128
KERAS_EPS = 1e-3  # of batch normalisation


class Glamor(nn.Module):
    """GLAMOR-Net: face (N, 3, 96, 96) and masked context (N, 3, 112, 112), both RGB 0..1, to (N, 7) and the attention.

    Parameters
    ----------
    face, context : nn.Module, optional
        Encoders, image to feature map (N, channels, h, w). By default the original ones.
    channels : int
        D of the post.
    attention : {"gla", "context", "mean"}
        What weighs the cells of the context: face and cell together, the cell alone (CAER-Net's idea, with the same
        dense net), or nothing.
    fusion : {"adaptive", "concat"}
        Whether face and context are weighed against each other before the head.

    Attributes
    ----------
    labels : tuple of str
        Class names in the order of the output.
    stride : int
        Pixels of the context per cell of the attention.
    """

    labels = LABELS
    stride = 16

    def __init__(
        self,
        face: nn.Module | None = None,
        context: nn.Module | None = None,
        channels: int = 256,
        *,
        attention: Literal["gla", "context", "mean"] = "gla",
        fusion: Literal["adaptive", "concat"] = "adaptive",
    ) -> None:
        super().__init__()
        self.face = face or Encoder()
        self.context = context or Encoder()
        self.attention = ATTENTION[attention](channels)
        self.adaptive = fusion == "adaptive"
        if self.adaptive:
            self.face_weight = score_net(channels)
            self.context_weight = score_net(channels)
        self.head = nn.Sequential(
            nn.Linear(2 * channels, HIDDEN), nn.ReLU(), nn.Dropout(0.5), nn.Linear(HIDDEN, len(LABELS))
        )

    def logits(self, face: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, 7) before the softmax, and the attention map (N, 1, h, w)."""
        v_f = global_pool(self.face(face))  # 256
        v_c, attention = self.attention(v_f, self.context(context))  # 256; 1, 7, 7
        return self.classify(v_f, v_c), attention

    def classify(self, v_f: Tensor, v_c: Tensor) -> Tensor:
        """Scores (N, 7) of a face vector and a context vector (N, D)."""
        if self.adaptive:
            w_f, w_c = self.weights(v_f, v_c).split(1, 1)
            v_f, v_c = v_f * w_f, v_c * w_c
        return self.head(torch.cat([v_f, v_c], 1))

    def weights(self, v_f: Tensor, v_c: Tensor) -> Tensor:
        """Shares (N, 2) of face and context in the answer, which sum to 1: w_f and w_c of the post."""
        return torch.cat([self.face_weight(v_f), self.context_weight(v_c)], 1).softmax(1)

    def forward(self, face: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (N, 7) and attention map (N, 1, 7, 7), which sums to 1 over its cells."""
        logits, attention = self.logits(face, context)
        return logits.softmax(1), attention


class GlamorResNet18(Glamor):
    """GLAMOR-Net with ResNet-18 encoders, D = 512: the attention has 4x4 cells; 22,748,298 parameters."""

    stride = 32

    def __init__(self) -> None:
        super().__init__(resnet18(), resnet18(), 512)


class Encoder(nn.Sequential):
    """3x3 convolutions with batch norm and ReLU, pooled after all but the last; by default 979,968 parameters.

    (N, 3, s, s) -> (N, 256, s / 16, s / 16).
    """

    def __init__(self, filters: Sequence[int] = FILTERS) -> None:
        layers: list[nn.Module] = []
        for channels, out in pairwise((3, *filters)):
            layers += [
                nn.Conv2d(channels, out, 3, padding=1),
                nn.BatchNorm2d(out, KERAS_EPS),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        super().__init__(*layers[:-1])


class CellAttention(nn.Module):
    """Weights of the context's cells from a hidden value each; what the two learnt attentions share."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, HIDDEN)
        self.norm = nn.BatchNorm2d(HIDDEN, KERAS_EPS)
        self.score = nn.Linear(HIDDEN, 1)

    def attend(self, hidden: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Context vector (N, D) and attention (N, 1, h, w) of Dense128's output (N, 128, h, w) and the map."""
        hidden = self.norm(F.relu(hidden))  # 128, 7, 7
        score = F.conv2d(F.relu(hidden), self.score.weight[:, :, None, None], self.score.bias)  # 1, 7, 7
        attention = score.flatten(1).softmax(1)  # 49
        v_c = (context.flatten(2) @ attention[:, :, None]).squeeze(2)  # 256
        return v_c, attention.view_as(score)


class GlobalLocalAttention(CellAttention):
    """Weights of the context's cells from each cell and the face together; GLA of the post.

    s_ij = Dense1(ReLU(BN(ReLU(Dense128([v_f; v_ij]))))), a = softmax of s over all cells, v_c = sum a_ij v_ij.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(2 * channels)

    def forward(self, v_f: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Context vector (N, D) and attention (N, 1, h, w) of a face vector (N, D) and a context map (N, D, h, w)."""
        # The dense layer on [v_f; v_ij], with the face's half, which is the same in every cell, computed once.
        for_face, for_cell = self.hidden.weight.split(v_f.shape[1], 1)
        face = F.linear(v_f, for_face, self.hidden.bias)[:, :, None, None]  # 128, 1, 1
        return self.attend(F.conv2d(context, for_cell[:, :, None, None]) + face, context)


class ContextAttention(CellAttention):
    """The same from each cell alone: the face has no say. Shapes as for `GlobalLocalAttention`."""

    def forward(self, _v_f: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Context vector and attention."""
        return self.attend(F.conv2d(context, self.hidden.weight[:, :, None, None], self.hidden.bias), context)


class MeanPooling(nn.Module):
    """No attention: every cell weighs the same. Shapes as for `GlobalLocalAttention`."""

    def __init__(self, _channels: int) -> None:
        super().__init__()

    def forward(self, _v_f: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Context vector and attention."""
        height, width = context.shape[2:]
        uniform = torch.full_like(context[:, :1], 1 / (height * width))
        return global_pool(context), uniform


ATTENTION = {"gla": GlobalLocalAttention, "context": ContextAttention, "mean": MeanPooling}


def score_net(channels: int) -> nn.Sequential:
    """F(.; phi) of the adaptive fusion: how useful one branch is, (N, D) -> (N, 1)."""
    return nn.Sequential(nn.Linear(channels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))
