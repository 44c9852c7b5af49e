"""Prints the conductance of one of IBM aihwkit's soft-bounds devices, up and down its range: beta, then pulses.

Run by a Python that has aihwkit. Its P-max parametrisation takes steps of first order in beta / P
and no mirrored depression; so the general device is given the bounds and the first step of ours, centred around 0.
"""

import json
import math
import sys

import torch
from aihwkit.simulator.configs import SingleRPUConfig
from aihwkit.simulator.configs.devices import SoftBoundsDevice
from aihwkit.simulator.parameters import UpdateParameters
from aihwkit.simulator.tiles import AnalogTile

beta, pulses = float(sys.argv[1]), int(sys.argv[2])
bound, slope = -1 / math.expm1(-beta) - 0.5, -math.expm1(-beta / pulses)
exact = dict.fromkeys(("dw_min_dtod", "dw_min_std", "up_down_dtod", "w_max_dtod", "w_min_dtod"), 0.0)
device = SoftBoundsDevice(w_max=bound, w_min=-bound, dw_min=slope * bound, up_down=0.0, **exact)
update = UpdateParameters(desired_bl=1, update_bl_management=False, update_management=False)
tile = AnalogTile(1, 1, SingleRPUConfig(device=device, update=update))
tile.set_learning_rate(100.0)  # so high that every update is one pulse
tile.set_weights(torch.full((1, 1), -0.5))
seen = []
for direction in [1.0] * pulses + [-1.0] * pulses:
    tile.update(torch.ones(1, 1), torch.full((1, 1), -direction))
    seen.append(0.5 + float(tile.get_weights()[0]))
print(json.dumps(seen))
