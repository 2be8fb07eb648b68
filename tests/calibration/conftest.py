"""Small nets to calibrate, and a camera whose lens is known."""

import cv2
import numpy as np
import pytest


class Studio:
    """A camera of known lens, and what it sees of a checkerboard of 9x6 inner corners, 25 mm squares."""

    def __init__(
        self,
        width=480,
        height=360,
        focal=(431.7, 428.9),
        centre=(245.3, 176.2),
        coeffs=(-0.28, 0.1, 1e-3, -7e-4, -0.02),
    ):
        self.size = width, height
        self.matrix = np.array([[focal[0], 0, centre[0]], [0, focal[1], centre[1]], [0, 0, 1]])
        self.coeffs = np.array(coeffs)
        self._rays = None

    def poses(self, count, tilt=0.5, reach=0.4, distance=(0.3, 0.5), seed=0):
        """Rotation and translation of `count` views that show the whole board, with at most so much tilt (rad) and so
        far off the middle of the image (share of its sides); distance in metres."""
        rng = np.random.default_rng(seed)
        edge = np.array([[x, y, 0] for x in np.linspace(0, 0.2, 9) for y in (0, 0.125)])
        made = []
        while len(made) < count:
            rotation = np.array([*rng.uniform(-tilt, tilt, 2), rng.uniform(-0.4, 0.4)])
            depth = rng.uniform(*distance)
            middle = np.append(rng.uniform(-reach, reach, 2) * self.size / self.matrix[[0, 1], [0, 1]], 1) * depth
            turn, _ = cv2.Rodrigues(rotation)
            pose = rotation, middle - turn @ [0.1, 0.0625, 0]
            pixels = self.corners(edge, pose)
            if (pixels > 12).all() and (pixels < np.array(self.size) - 12).all():
                made.append(pose)
        return made

    def corners(self, points, pose):
        """Pixels (n, 2) of points (n, 3) on the board."""
        return cv2.projectPoints(points, *pose, self.matrix, self.coeffs)[0][:, 0]

    def picture(self, pose, noise=3, seed=0):
        """Grey picture: 2x2 samples a pixel, a little blur and noise, as a lens and a sensor give."""
        width, height = self.size
        if self._rays is None:
            u, v = np.meshgrid((np.arange(2 * width) + 0.5) / 2 - 0.5, (np.arange(2 * height) + 0.5) / 2 - 0.5)
            pixels = np.stack([u.ravel(), v.ravel()], 1)[:, None]
            until = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 25, 1e-7)
            rays = cv2.undistortPointsIter(pixels, self.matrix, self.coeffs, None, None, until)[:, 0]
            self._rays = np.column_stack([rays, np.ones(len(rays))]).astype(np.float32)
        turn, _ = cv2.Rodrigues(pose[0])
        to_board = np.linalg.inv(np.column_stack([turn[:, 0], turn[:, 1], pose[1]])).astype(np.float32)
        x, y, z = to_board @ self._rays.T
        x, y = x / z / 0.025 + 1, y / z / 0.025 + 1  # in squares from the board's outer corner
        paper = (x > -1) & (y > -1) & (x < 11) & (y < 8) & (z > 0)
        black = (x > 0) & (y > 0) & (x < 10) & (y < 7) & ((np.floor(x) + np.floor(y)) % 2 == 0)
        fine = np.where(paper, np.where(black, 30, 225), 110).astype(np.float32)
        grey = cv2.GaussianBlur(fine.reshape(height, 2, width, 2).mean((1, 3)), (0, 0), 0.6)
        grey += np.random.default_rng(seed).normal(0, noise, grey.shape)
        return np.clip(grey, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def make_studio():
    return Studio


@pytest.fixture(scope="session")
def studio():
    return Studio()
