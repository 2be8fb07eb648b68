"""GCD: group choreography by contrastive diffusion (ACM TOG 42(6), 2023, arXiv 2310.18986)."""

from edgeflock.export.nets.gcd.contrastive import ContrastiveEncoder
from edgeflock.export.nets.gcd.denoiser import GCD, Music

__all__ = ["GCD", "ContrastiveEncoder", "Music"]
