"""What a world is made of, and how it becomes a MuJoCo model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args
from xml.sax.saxutils import quoteattr

import numpy as np

from edgeflock.runtime.extras import needs
from edgeflock.runtime.mount import Mount

from .car import CAR_XML
from .expert import LOOKAHEAD, NEAREST, PurePursuit
from .path import ReferencePath

if TYPE_CHECKING:
    import mujoco


Kind = Literal["indoor", "outdoor", "tape", "indoor-wide", "outdoor-wide"]
KINDS: tuple[Kind, ...] = get_args(Kind)


# Stable settings (docs/decisions/0006): implicitfast at 2 ms with armature; no multi-sampling, no shadows.
# Visual meshes and collision boxes are apart: group 3 is never rendered.
_HEADER = """<mujoco model="{kind}_{seed}">
<compiler angle="radian" inertiafromgeom="auto"/>
<option timestep="0.002" integrator="implicitfast"/>
<statistic center="0 0 0" extent="10"/>
<visual><quality offsamples="0" shadowsize="0"/>
<map znear="0.004" zfar="8" fogstart="10" fogend="60"/>
<headlight ambient="{ambient}" diffuse="{head}" specular="0 0 0"/><rgba fog="{fog}"/></visual>
<default><geom contype="0" conaffinity="0"/>
<default class="hit"><geom contype="1" conaffinity="1" group="3"/></default></default>
"""


Cover = Callable[[np.ndarray], np.ndarray]
"""Maps a drawn tile of a surface, (n, n, 3) uint8 RGB, to the one that is seen."""


def drawn(tile: np.ndarray) -> np.ndarray:
    """Surfaces are as they are drawn."""
    return tile


@dataclass
class Scene:
    """What a world builder fills: MJCF fragments, textures, and outlines for the map."""

    cover: Cover = drawn
    assets: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    textures: dict[str, np.ndarray] = field(default_factory=dict)
    outline: list[np.ndarray] = field(default_factory=list)

    def texture(self, name: str, image: np.ndarray, **material: object) -> str:
        """Register an (h, w, 3) uint8 RGB texture and a material of the same name that shows it."""
        h, w = image.shape[:2]
        self.textures[name] = image
        self.assets.append(f'<texture name="{name}" type="2d" builtin="flat" width="{w}" height="{h}"/>')
        self.assets.append(f'<material name="{name}" texture="{name}" specular="0.1" {_attributes(material)}/>')
        return name

    def geom(
        self, kind: str, pos: object, size: object, yaw: float = 0.0, hit: bool = False, **attributes: object
    ) -> None:
        """Add a static geom; with `hit` also an invisible twin that the robot can collide with."""
        pose = {"type": kind, "pos": pos, "size": size, "euler": (0, 0, yaw)}
        self.bodies.append(f"<geom {_attributes(pose | attributes)}/>")
        if hit:
            self.collider(kind, pos, size, yaw)

    def collider(self, kind: str, pos: object, size: object, yaw: float = 0.0) -> None:
        """Add an invisible geom that the robot can collide with."""
        pose = {"class": "hit", "type": kind, "pos": pos, "size": size, "euler": (0, 0, yaw)}
        self.bodies.append(f"<geom {_attributes(pose)}/>")

    def ground(self, reach: float, material: str) -> None:
        """Add the ground plane, `reach` m in each direction; the only thing that the robot may touch."""
        plane = {"name": "ground", "type": "plane", "size": (reach, reach, 0.1), "material": material}
        self.bodies.append(f"<geom {_attributes(plane | {'contype': 1, 'conaffinity': 1})}/>")

    def strip(self, name: str, bottom: np.ndarray, top: np.ndarray, tile: float, **attributes: object) -> None:
        """Add a visual band of quads between two closed polylines (n, 3), seen from the left of their direction.

        The texture repeats every `tile` m along the band and once across it.
        """
        n = len(bottom)
        nxt = (np.arange(n) + 1) % n
        corners = np.stack([bottom, bottom[nxt], top[nxt], top], axis=1)
        s = np.concatenate([[0], np.cumsum(np.linalg.norm(bottom[nxt] - bottom, axis=1))]) / tile
        u = np.stack([s[:-1], s[1:], s[1:], s[:-1]], axis=1)
        v = np.broadcast_to([1.0, 1.0, 0.0, 0.0], (n, 4))
        base = 4 * np.arange(n)[:, None]
        faces = np.concatenate([base + np.array([0, 2, 1]), base + np.array([0, 3, 2])])
        normal = np.cross(corners[:, 3] - corners[:, 0], corners[:, 1] - corners[:, 0])
        normal = np.repeat(normal / np.linalg.norm(normal, axis=1, keepdims=True), 4, axis=0)
        mesh: dict[str, object] = {
            "name": name, "inertia": "shell", "vertex": corners.ravel().round(4), "normal": normal.ravel().round(4),
            "texcoord": np.stack([u, v], axis=2).ravel().round(4), "face": faces.ravel(),
        }  # fmt: skip
        self.assets.append(f"<mesh {_attributes(mesh)}/>")
        self.bodies.append(f"<geom {_attributes({'type': 'mesh', 'mesh': name} | attributes)}/>")


def _attributes(values: dict[str, object]) -> str:
    def text(value: object) -> str:
        if isinstance(value, str):
            return value
        return " ".join(f"{v:.5g}" for v in np.atleast_1d(np.asarray(value, float)))

    return " ".join(f"{k}={quoteattr(text(v))}" for k, v in values.items())


@dataclass(frozen=True)
class CameraLook:
    """How this world's robot sees: mount, lens and sensor, randomised per world unless one was asked for."""

    forward: float  # m ahead of the rear axle
    height: float  # m above the ground
    pitch: float  # rad, positive looks down
    yaw: float  # rad
    fovy: float  # rad, from top to bottom
    gain: float  # exposure
    noise: float  # grey levels
    blur: float  # px at 640 wide
    roll: float = 0.0  # rad

    @property
    def mount(self) -> Mount:
        """Where the robot wears its camera."""
        return Mount(height=self.height, pitch=float(self.pitch), yaw=float(self.yaw), roll=float(self.roll))


@dataclass(frozen=True)
class World:
    """A world made from a seed.

    Attributes
    ----------
    kind, seed
        What it was made from.
    scenery : str
        The MuJoCo model up to the car.
    textures : dict[str, ndarray (h, w, 3) uint8]
        By texture name.
    path : ReferencePath
        The closed path that the robot should follow, for the rear axle.
    half_road : float or None
        Outdoors: metres from the centreline to the edge of the pavement. On tape: half the lane. None: walls bound it.
    centreline : ReferencePath
        Middle of the corridor, road or tape track.
    outline : list of ndarray (n, 2)
        Closed polygons for the map: walls, road edges or lines first, then obstacles.
    look : CameraLook
        Of the robot's camera.
    lane : float
        Width of the way that the robot keeps to, m; of wide ones 1.2.
    """

    kind: Kind
    seed: int
    scenery: str
    textures: dict[str, np.ndarray]
    path: ReferencePath
    centreline: ReferencePath
    half_road: float | None
    outline: list[np.ndarray]
    look: CameraLook
    lane: float

    @property
    def expert(self) -> PurePursuit:
        """Who knows the way: what lies further on than a narrow way is wide, a frame need not show."""
        return PurePursuit(self.path, min(LOOKAHEAD, max(NEAREST, self.lane)))

    @property
    def sideways(self) -> float:
        """How far off the path, m, a single frame still tells the way from its neighbour."""
        return min(0.45, 0.4 * self.lane)

    @property
    def mjcf(self) -> str:
        """The MuJoCo model; textures are filled in by `compile`."""
        return self.scenery + CAR_XML.format(**_camera_attributes(self.look))

    def compile(self, textures: bool = True) -> mujoco.MjModel:
        """Compile to a MuJoCo model; without `textures` it is for physics only."""
        with needs("The simulated world"):
            import mujoco
        model = mujoco.MjModel.from_xml_string(self.mjcf)
        for name, image in self.textures.items() if textures else ():
            start = model.tex_adr[model.texture(name).id]
            model.tex_data[start : start + image.size] = image.ravel()
        return model


def assemble(
    kind: Kind, seed: int, rng: np.random.Generator, scene: Scene, path: ReferencePath, centreline: ReferencePath,
    half_road: float | None, ambient: float, head: float, fog: np.ndarray, lane: float = LOOKAHEAD,
) -> World:  # fmt: skip
    """Put the robot into a scene and draw the camera that it sees with."""
    header = _HEADER.format(
        kind=kind,
        seed=seed,
        ambient=f"{ambient:.3f} " * 3,
        head=f"{head:.3f} " * 3,
        fog=" ".join(f"{c:.3f}" for c in fog) + " 1",
    )
    look = CameraLook(
        forward=0.35,
        height=0.40 + rng.uniform(-0.02, 0.02),
        pitch=np.radians(rng.uniform(7, 10)),
        yaw=np.radians(rng.uniform(-0.7, 0.7)),
        # A wide lens: the net sees 200 of 320 columns, and the way on must be among them in every bend.
        fovy=np.radians(rng.uniform(84, 88)),
        gain=rng.uniform(0.8, 1.25),
        noise=rng.uniform(1.5, 6),
        blur=float(rng.choice([0.0, 0.8, 1.3])),
    )
    scenery = f"{header}<asset>{''.join(scene.assets)}</asset><worldbody>{''.join(scene.bodies)}"
    return World(kind, seed, scenery, scene.textures, path, centreline, half_road, scene.outline, look, lane)


def camera_axes(look: CameraLook) -> tuple[np.ndarray, np.ndarray]:
    """Right and up of a camera, each (3,) in the base's frame, as MuJoCo takes them."""
    right, down, _ = look.mount.axes.T
    return right, -down


def _camera_attributes(look: CameraLook) -> dict[str, str]:
    right, up = camera_axes(look)
    return {
        "camera_pos": f"{look.forward:.5f} 0 {look.height:.5f}",
        "camera_axes": " ".join(f"{v:.6f}" for v in (*right, *up)),
        "camera_fovy": f"{np.degrees(look.fovy):.6f}",  # MuJoCo takes degrees here whatever the compiler says
    }
