"""Types of config values: the names that a constructor's annotations may use.

The schema reads annotations without importing the module that holds them (``runner.schema``), so
annotations of methods, datasets, backbones and hardware targets use these names, the built-in
``int``, ``float``, ``bool``, ``str``, ``list``, ``dict``, ``None``, and ``Literal``.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

PositiveInt = Annotated[int, Meta(gt=0)]
NonNegativeInt = Annotated[int, Meta(ge=0)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
Probability = Annotated[float, Meta(ge=0, le=1)]
RunReference = Annotated[str, Meta(title="run reference")]
"""Another run, as overrides (``"method=backprop dataset=cora"``) or as ``id:<run id>``; several: a list of them."""
