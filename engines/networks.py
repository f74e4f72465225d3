"""The networks of the default filter.

All are float32 with batch 1. Pictures are luma in [0, 1]. `target` is one weight per emotion of
`mien.runtime.target.EMOTIONS`; crop units run from 0 to 1 along a side of the aligned crop.
"""

from __future__ import annotations

from mien.engines.network import Network, TensorSpec

UNIT = (0.0, 1.0)
TARGET = TensorSpec("target", (1, 8), range=UNIT)

# A letterboxed frame (content at the left top, the rest 0) to a face per cell: 40*40 cells of
# stride 8, then 20*20 of 16, then 10*10 of 32, row major. Boxes (x0, y0, x1, y1) hug the 106
# landmarks; points are the left eye, the right eye (viewer's left first) and the mouth. Both in
# input pixels.
DETECTOR = Network(
    "detector",
    inputs=(TensorSpec("image", (1, 1, 320, 320), range=UNIT, colour="luma"),),
    outputs=(
        TensorSpec("scores", (1, 2100), range=UNIT),
        TensorSpec("boxes", (1, 2100, 4), most=1e5),
        TensorSpec("points", (1, 2100, 3, 2), most=1e5),
    ),
)

# A crop by `roi_matrix` to the landmarks in its crop units (they may lie outside) and how well
# they can be seen: 1 a plain face, 0 none, or one mostly covered or turned away.
LANDMARKS = Network(
    "landmarks",
    inputs=(TensorSpec("face", (1, 1, 112, 112), range=UNIT, colour="luma"),),
    outputs=(
        TensorSpec("landmarks", (1, 106, 2), most=16.0),
        TensorSpec("score", (1, 1), range=UNIT),
    ),
)

# An aligned face to the way its landmarks move, in crop units.
WARP = Network(
    "warp",
    inputs=(
        TensorSpec("face", (1, 1, 64, 64), range=UNIT, colour="luma"),
        TensorSpec("landmarks", (1, 106, 2)),
        TARGET,
    ),
    outputs=(TensorSpec("displacement", (1, 106, 2), most=4.0),),
)

# An aligned face to what lies in front of its skin: glasses (rims and reflections), other covers.
OCCLUSION = Network(
    "occlusion",
    inputs=(TensorSpec("face", (1, 1, 128, 128), range=UNIT, colour="luma"),),
    outputs=(TensorSpec("covered", (1, 2, 128, 128), range=UNIT),),
)

NETWORKS = (DETECTOR, LANDMARKS, WARP, OCCLUSION)
